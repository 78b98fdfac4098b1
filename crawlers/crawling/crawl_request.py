"""What a crawl is asked for, and when an existing catalog already answers it.

A catalog only grows. A request for more models, or one whose filters and licence rules take more, extends it: models
that were left out are judged again, models that were taken stay as they are, because they may have been sampled from.
A request for fewer models is answered by what is there. One whose filters would leave out what was taken, or judge it
otherwise, is refused.
"""

import re
from collections.abc import Callable
from datetime import date
from typing import Any, get_args

from pydantic import Field

from crawlers.hub.hub_client import DEFAULT_ENDPOINT
from crawlers.parameters.families import FAMILIES
from crawlers.recognition.eligibility import LicenceRule
from manifests.errors import InputError
from manifests.frozen import FrozenModel
from manifests.generator import GeneratorSpec, Packaging

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}")
ALL_PACKAGINGS: tuple[Packaging, ...] = get_args(Packaging)


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
    tasks: tuple[str, ...] = Field(default=(), description="the hub's pipeline tags taken; empty takes any")
    created_from: date | None = Field(default=None, description="first day of creation taken, UTC")
    created_until: date | None = Field(default=None, description="last day of creation taken, UTC")
    packagings: tuple[Packaging, ...] = Field(default=ALL_PACKAGINGS, description="how a generator may lie in its repo")
    families: tuple[str, ...] = Field(default=(), description="families taken; empty takes any")
    max_per_author: int | None = Field(default=None, ge=1, description="eligible models taken from one uploader")
    max_per_base: int | None = Field(default=None, ge=1, description="eligible adapters taken of one base model")
    variant: str | None = Field(default=None, description="weight variant to prefer, such as fp16")

    @property
    def licence_rule(self) -> LicenceRule:
        return LicenceRule(self.licences_allowed, self.licences_denied)


def check_request(request: CrawlRequest) -> None:
    """Raise InputError for a repo id that no hub could have, two manifest entries of one name, or an empty filter."""
    for repo_id in (*request.named, *(spec.repo_id for spec in request.generators)):
        if not _REPO_ID.fullmatch(repo_id):
            raise InputError(f"models: {repo_id!r} is not a repo id; allowed: OWNER/NAME")
    names = [spec.name for spec in request.generators]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"generators: named twice: {', '.join(doubled)}")
    if unknown := sorted(set(request.families) - set(FAMILIES)):
        raise InputError(f"families: {', '.join(unknown)} is not known; allowed: {', '.join(FAMILIES)}")
    if not request.packagings:
        raise InputError(f"packagings: none is left to take; allowed: {', '.join(ALL_PACKAGINGS)}")
    if request.created_from and request.created_until and request.created_from > request.created_until:
        raise InputError(
            f"created_from: no day lies between {request.created_from} and created_until {request.created_until}"
        )


def _takes_all_of(old: tuple[str, ...], new: tuple[str, ...]) -> bool:
    """For lists of what is taken, where an empty one takes everything."""
    return not new or (bool(old) and set(old) <= set(new))


def _not_below(old: int | None, new: int | None) -> bool:
    """For limits, where None is no limit."""
    return new is None or (old is not None and old <= new)


def _not_after(old: date | None, new: date | None) -> bool:
    return new is None or (old is not None and new <= old)


def _not_before(old: date | None, new: date | None) -> bool:
    return new is None or (old is not None and new >= old)


_RULES: dict[str, Callable[[Any, Any], bool]] = {
    "licences_allowed": _takes_all_of,
    "licences_denied": lambda old, new: set(new) <= set(old),
    "tasks": _takes_all_of,
    "created_from": _not_after,
    "created_until": _not_before,
    "packagings": lambda old, new: set(old) <= set(new),
    "families": _takes_all_of,
    "max_per_author": _not_below,
    "max_per_base": _not_below,
    "variant": lambda old, new: bool(old == new),
}
"""Key to whether everything that the old value takes is taken by the new one too."""


def check_same_rules(old: CrawlRequest, new: CrawlRequest) -> None:
    """Raise InputError, naming every such key, when `new` would leave out models of `old`'s catalog, or judge them
    otherwise."""
    changed = [
        f"{key} ({_show(old, key)} -> {_show(new, key)})"
        for key, takes_as_much in _RULES.items()
        if not takes_as_much(getattr(old, key), getattr(new, key))
    ]
    before = {spec.name: spec for spec in old.generators}
    changed += [f"generator {spec.name}" for spec in new.generators if before.get(spec.name, spec) != spec]
    if changed:
        raise InputError(
            f"the catalog was made with other settings: {', '.join(changed)}; a catalog grows, and what it has taken "
            "stays: take as much as before, refresh it, or crawl into another folder"
        )


def _show(request: CrawlRequest, key: str) -> str:
    value: Any = getattr(request, key)
    return ", ".join(value) or "none" if isinstance(value, tuple) else str(value)


def takes_more(old: CrawlRequest, new: CrawlRequest) -> bool:
    """True when models that `old` left out have to be judged again: `new` is no narrower, and it is wider."""
    return any(not takes_as_much(getattr(new, key), getattr(old, key)) for key, takes_as_much in _RULES.items())


def takes_more_licences(old: CrawlRequest, new: CrawlRequest) -> bool:
    """The same of the licence rules alone."""
    keys = ("licences_allowed", "licences_denied")
    return any(not _RULES[key](getattr(new, key), getattr(old, key)) for key in keys)


def covers(old: CrawlRequest, new: CrawlRequest) -> bool:
    """True when a catalog made for `old` holds every model that `new` asks for, judged by rules as wide."""
    return union(old, new) == old


def union(old: CrawlRequest, new: CrawlRequest) -> CrawlRequest:
    """Return the request that asks for what either asks for, at `old`'s endpoint and by `new`'s rules, which take no
    less (see `check_same_rules`)."""
    generators = {spec.name: spec for spec in (*old.generators, *new.generators)}
    # A list that says the same in another order is no reason to write a new snapshot.
    wider = [key for key, takes_as_much in _RULES.items() if not takes_as_much(getattr(new, key), getattr(old, key))]
    return old.model_copy(
        update={
            "count": None if old.count is None or new.count is None else max(old.count, new.count),
            "min_downloads": min(old.min_downloads, new.min_downloads),
            "named": tuple(dict.fromkeys((*old.named, *new.named))),
            "generators": tuple(generators.values()),
            **{key: getattr(new, key) for key in wider},
        }
    )
