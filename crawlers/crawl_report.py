"""What a crawl has found, before anything is sampled: models, bytes, memory, copies, lineages, expected failures.

Every number is of the catalog as it lies on disk; the hub is not asked. Shares and classes are of the eligible models
unless they say otherwise.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from crawlers.catalog import catalog_file
from crawlers.catalog_bytes import CatalogBytes, SharedComponent, base_of, files_of
from crawlers.catalog_file import CatalogHeader, Record, read_header, read_records
from manifests.catalog import CATALOG_REASONS
from manifests.errors import InputError

GPU_CLASSES = (8, 16, 24, 48, 80)
"""GiB of memory of the cards that are common."""
PINNED = (1, 2, 4, 8, 16)
"""Numbers of generators that are held at once: workers × (1 + hub.prefetch)."""
SMALL_FILES = 14
"""Configs and tokenizer files of a repo, which no catalog lists: 11 for SD 1.x, 15 for SDXL, 14 for FLUX.1."""
TOP = 20
"""Entries of a table that could be as long as the catalog."""
NOT_STATED = "not stated"

_COLUMNS = [
    "repo_id",
    "revision",
    "generator",
    "eligible",
    "reason",
    "author",
    "created_at",
    "release_date",
    "packaging",
]
_COLUMNS += ["architecture", "family", "lineage", "license", "subfolder", "gpu_memory_bytes", "base", "files"]


@dataclass(frozen=True)
class Failure:
    """Models that will not be sampled, or may fail when they are, and what would help."""

    what: str
    models: int
    meaning: str


@dataclass(frozen=True)
class Requests:
    """Requests that sampling everything from an empty cache needs at least, by the hub's bucket.

    One listing of files for each repo, one request for each different weight file, and `SMALL_FILES` for the configs
    and tokenizers of each repo. Files of more than one repo are fetched once.
    """

    api: int
    resolvers: int


@dataclass(frozen=True)
class CrawlReport:
    """A catalog in numbers. Mappings go from a value to the eligible models that have it, the most frequent first.

    Attributes:
        reasons: catalog reason to number of models, "ok" included.
        authors: the `TOP` uploaders with most eligible models; `author_count` is how many there are.
        bytes_naive: to fetch when every generator fetches all of its files.
        bytes_unique: to fetch when every content is fetched once; the disk that the whole catalog needs.
        bytes_pinned: number of generators held at once to the bytes of the largest ones, shared files counted once: a
            disk budget below that cannot hold them.
        weight_files, distinct_files: weight files of all generators together, and different contents among them.
        unhashed_files: weight files whose content the hub does not tell.
        gpu_memory: GiB of the smallest card of `GPU_CLASSES` that one image fits on, "more" or "unknown", to models.
        components: of the whole pipelines, how often each part is a copy of another's.
        pipelines, pipelines_sharing: whole pipelines, and those with at least one part that another has too.
        lineages: the `TOP` roots with most eligible models; `lineage_count` is how many there are.
        failures: models that are left out, by reason, and eligible ones of which something is not known.
        cost: what sampling all of it would cost, where a cost model was given.
    """

    catalog: str
    snapshots: tuple[str, ...]
    models: int
    listed: int
    eligible: int
    reasons: dict[str, int]
    packagings: dict[str, int]
    families: dict[str, int]
    architectures: dict[str, int]
    licences: dict[str, int]
    authors: dict[str, int]
    author_count: int
    years: dict[str, int]
    bytes_naive: int
    bytes_unique: int
    bytes_pinned: dict[int, int]
    weight_files: int
    distinct_files: int
    unhashed_files: int
    gpu_memory: dict[str, int]
    components: tuple[SharedComponent, ...]
    pipelines: int
    pipelines_sharing: int
    lineages: dict[str, int]
    lineage_count: int
    failures: tuple[Failure, ...]
    requests: Requests
    cost: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values for JSON."""
        document: dict[str, Any] = _plain(self)
        for part, entry in zip(self.components, document["components"], strict=True):
            entry["identical_share"] = part.identical_share
        return document


def crawl_report(path: Path) -> CrawlReport:
    """Sum up a catalog.

    Args:
        path: the file, or the folder that it lies in.

    Raises:
        InputError: there is no catalog, or it is none that `crawl` wrote.
    """
    file = catalog_file(path)
    header = read_header(file)
    if header is None:
        raise InputError(f"{file}: no such catalog; make one with `commforge crawl`")
    counted = _Counted()
    for record in read_records(file, _COLUMNS):
        counted.add(record)
    return counted.report(file, header)


@dataclass
class _Counted:
    """Sums of the rows so far."""

    reasons: Counter[str] = field(default_factory=Counter)
    by: dict[str, Counter[str]] = field(default_factory=dict)
    gpu: Counter[str] = field(default_factory=Counter)
    content: CatalogBytes = field(default_factory=CatalogBytes)
    repos: set[tuple[str, str | None]] = field(default_factory=set)
    no_licence: int = 0
    unhashed: int = 0

    def add(self, record: Record) -> None:
        self.reasons[record["reason"]] += 1
        if not record["eligible"]:
            return
        for column in ("packaging", "family", "architecture", "license", "author", "lineage"):
            self.by.setdefault(column, Counter())[record[column] or NOT_STATED] += 1
        year = (record["release_date"] or record["created_at"] or "")[:4] or NOT_STATED
        self.by.setdefault("year", Counter())[year] += 1
        self.gpu[_gpu_class(record["gpu_memory_bytes"])] += 1
        self.no_licence += record["license"] is None
        stored = list(files_of(record))
        self.unhashed += any(not file.hashed for file in stored)
        self.content.add(record["generator"], stored)
        self.repos.add((record["repo_id"], record["revision"]))
        if (base := base_of(record)) is not None:
            self.repos.add((base["repo_id"], base["revision"]))

    def report(self, file: Path, header: CatalogHeader) -> CrawlReport:
        content = self.content
        return CrawlReport(
            catalog=str(file),
            snapshots=header.snapshots,
            models=self.reasons.total(),
            listed=header.listed,
            eligible=self.reasons["ok"],
            reasons=_ordered(self.reasons),
            packagings=self._counts("packaging"),
            families=self._counts("family"),
            architectures=self._counts("architecture"),
            licences=self._counts("license"),
            authors=self._counts("author", TOP),
            author_count=len(self.by.get("author", ())),
            years=dict(sorted(self._counts("year").items())),
            bytes_naive=content.naive,
            bytes_unique=content.unique,
            bytes_pinned={count: content.largest(count) for count in PINNED if count <= max(1, self.reasons["ok"])},
            weight_files=content.weight_files,
            distinct_files=content.distinct_files,
            unhashed_files=content.unhashed_files,
            gpu_memory={name: self.gpu[name] for name in (*map(str, GPU_CLASSES), "more", "unknown")},
            components=tuple(content.components()),
            pipelines=content.pipelines,
            pipelines_sharing=content.pipelines_sharing,
            lineages=self._counts("lineage", TOP),
            lineage_count=len(self.by.get("lineage", ())),
            failures=self._failures(),
            requests=Requests(len(self.repos), content.distinct_files + SMALL_FILES * len(self.repos)),
        )

    def _counts(self, column: str, top: int | None = None) -> dict[str, int]:
        return _ordered(self.by.get(column, Counter()), top)

    def _failures(self) -> tuple[Failure, ...]:
        known = {
            "licence not stated": (self.no_licence, "sampled, but nobody says what the images may be used for"),
            "memory unknown": (self.gpu["unknown"], "sampled, but nobody knows whether it fits the device"),
            "files without a hash": (self.unhashed, "sampled, but verified by size and git's own hash only"),
        }
        left_out = [Failure(reason, n, CATALOG_REASONS[reason]) for reason, n in _ordered(self.reasons).items()]
        doubtful = [Failure(what, models, meaning) for what, (models, meaning) in known.items() if models]
        return (*(entry for entry in left_out if entry.what != "ok"), *doubtful)


def _gpu_class(memory: int | None) -> str:
    if memory is None:
        return "unknown"
    return next((str(gib) for gib in GPU_CLASSES if memory <= gib * 2**30), "more")


def _ordered(counts: Mapping[str, int], top: int | None = None) -> dict[str, int]:
    """Return the counts, the largest first and equal ones by name."""
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:top])


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {entry.name: _plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else value
