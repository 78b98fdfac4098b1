"""Can commforge sample this repo, and if not, why: one of the closed list `manifests.catalog.CATALOG_REASONS`."""

from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase

from crawlers.recognition.model_index import ModelIndex
from crawlers.recognition.pipeline_classes import NEEDS_ANOTHER_REPO, OFTEN_ELSEWHERE, PIPELINE_CLASSES
from manifests.catalog import CATALOG_REASONS


@dataclass(frozen=True)
class Verdict:
    """A catalog reason and what exactly was found; eligible when the reason is "ok"."""

    reason: str = "ok"
    detail: str | None = None

    def __post_init__(self) -> None:
        if self.reason not in CATALOG_REASONS:
            raise ValueError(f"{self.reason!r} is not a catalog reason")

    @property
    def eligible(self) -> bool:
        return self.reason == "ok"


@dataclass(frozen=True)
class LicenceRule:
    """Which licences a config takes: `*` patterns, compared without case. Denying beats allowing.

    With an allow list, a repo that names no licence is left out.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    def verdict(self, licences: Collection[str]) -> Verdict:
        """Judge a repo by the names that its licence goes by (`other` and the card's own name for it)."""
        names = [name.lower() for name in licences]
        for pattern in self.deny:
            if any(fnmatchcase(name, pattern.lower()) for name in names):
                return Verdict("licence_denied", f"licence {', '.join(names)} is denied by {pattern!r}")
        if self.allow and not any(fnmatchcase(name, pattern.lower()) for pattern in self.allow for name in names):
            named = f"licence {', '.join(names)} is not" if names else "no licence is named, so none is"
            return Verdict("licence_denied", f"{named} among those allowed: {', '.join(self.allow)}")
        return Verdict()


def judge_pipeline(index: ModelIndex, paths: Collection[str], *, code_allowed: bool) -> Verdict:
    """Judge a pipeline by its class and by the code that loading it would run.

    Args:
        code_allowed: a manifest entry names this repo and this revision.
    """
    known = index.pipeline_class in PIPELINE_CLASSES
    if (code := index.code_files(paths)) and not code_allowed:
        return Verdict("remote_code", f"loading it would run {', '.join(code)} from the repo")
    part = OFTEN_ELSEWHERE.get(index.pipeline_class)
    if part is not None and (index.component(part) is None or index.path(part, "config.json") not in paths):
        return Verdict("unsupported_pipeline", f"{index.pipeline_class}: its {part} is in another repo")
    if known:
        return Verdict()
    own_class = {index.path("pipeline.py"), index.path(f"{index.pipeline_class}.py")} & set(paths)
    if own_class and not code_allowed and index.pipeline_class not in NEEDS_ANOTHER_REPO:
        return Verdict("remote_code", f"{index.pipeline_class} is defined in the repo ({min(own_class)})")
    why = NEEDS_ANOTHER_REPO.get(index.pipeline_class, "not a pipeline that makes images from a prompt alone")
    return Verdict("unsupported_pipeline", f"{index.pipeline_class}: {why}")
