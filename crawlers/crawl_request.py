"""What a crawl is asked for, and when an existing catalog already answers it.

A catalog only grows: a request for more models appends to it, a request for fewer is answered by it, and a request
that would judge the same models otherwise is refused, because rows that were sampled from must not change.
"""

import re
from typing import Any

from pydantic import Field

from crawlers.eligibility import LicenceRule
from crawlers.hub_client import DEFAULT_ENDPOINT
from manifests.errors import InputError
from manifests.frozen import FrozenModel
from manifests.generator import GeneratorSpec

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}")
_RULES = ("licences_allowed", "licences_denied", "max_per_author", "variant")


class CrawlRequest(FrozenModel):
    """Which models to look at and which rules to judge them by.

    `endpoint`, `token` and `connections` are how to get at the hub; they are no part of what was asked.
    """

    endpoint: str = Field(default=DEFAULT_ENDPOINT, exclude=True, description="address of the hub")
    token: str | None = Field(default=None, exclude=True, repr=False, description="sent to this endpoint only")
    connections: int = Field(default=8, ge=1, le=64, exclude=True, description="models asked for at the same time")
    count: int | None = Field(default=None, ge=0, description="models to look at, most downloaded first; None is all")
    min_downloads: int = Field(default=0, ge=0, description="the listing ends at the first model with fewer")
    named: tuple[str, ...] = Field(default=(), description="repo ids to look at wherever they rank")
    generators: tuple[GeneratorSpec, ...] = Field(default=(), description="manifest entries; their values win")
    licences_allowed: tuple[str, ...] = Field(default=(), description="patterns; empty allows all")
    licences_denied: tuple[str, ...] = Field(default=(), description="patterns; denying beats allowing")
    max_per_author: int | None = Field(default=None, ge=1, description="eligible models taken from one uploader")
    variant: str | None = Field(default=None, description="weight variant to prefer, such as fp16")

    @property
    def licence_rule(self) -> LicenceRule:
        return LicenceRule(self.licences_allowed, self.licences_denied)


def check_request(request: CrawlRequest) -> None:
    """Raise InputError for a repo id that no hub could have, or two manifest entries of one name."""
    for repo_id in (*request.named, *(spec.repo_id for spec in request.generators)):
        if not _REPO_ID.fullmatch(repo_id):
            raise InputError(f"models: {repo_id!r} is not a repo id; allowed: OWNER/NAME")
    names = [spec.name for spec in request.generators]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"generators: named twice: {', '.join(doubled)}")


def check_same_rules(old: CrawlRequest, new: CrawlRequest) -> None:
    """Raise InputError, naming every differing key, when `new` would judge models of `old`'s catalog otherwise."""
    changed = [f"{key} ({_show(old, key)} -> {_show(new, key)})" for key in _RULES if _differs(old, new, key)]
    before = {spec.name: spec for spec in old.generators}
    changed += [f"generator {spec.name}" for spec in new.generators if before.get(spec.name, spec) != spec]
    if changed:
        raise InputError(
            f"the catalog was made with other settings: {', '.join(changed)}; refresh it, or crawl into another folder"
        )


def _differs(old: CrawlRequest, new: CrawlRequest, key: str) -> bool:
    before, after = getattr(old, key), getattr(new, key)
    return set(before) != set(after) if isinstance(before, tuple) else bool(before != after)


def _show(request: CrawlRequest, key: str) -> str:
    value: Any = getattr(request, key)
    return ", ".join(value) or "none" if isinstance(value, tuple) else str(value)


def covers(old: CrawlRequest, new: CrawlRequest) -> bool:
    """True when a catalog made for `old` holds every model that `new` asks for."""
    return union(old, new) == old


def union(old: CrawlRequest, new: CrawlRequest) -> CrawlRequest:
    """Return the request that asks for what either asks for, at `new`'s endpoint and by their common rules."""
    generators = {spec.name: spec for spec in (*old.generators, *new.generators)}
    return old.model_copy(
        update={
            "endpoint": old.endpoint,
            "count": None if old.count is None or new.count is None else max(old.count, new.count),
            "min_downloads": min(old.min_downloads, new.min_downloads),
            "named": tuple(dict.fromkeys((*old.named, *new.named))),
            "generators": tuple(generators.values()),
        }
    )
