"""What the files of a catalog's generators come to: to fetch, to keep, and how much of it is the same.

The same file is told by its sha256, which the hub gives for every file that it keeps outside git; a file without one
counts as its repo's own.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Record = Mapping[str, Any]


@dataclass(frozen=True)
class StoredFile:
    """One weight file that a generator needs.

    Attributes:
        identity: sha256, else where it lies.
        component: the pipeline's part that it belongs to; None for files of a base, an adapter or a checkpoint.
    """

    identity: str
    size: int
    component: str | None
    hashed: bool


def files_of(record: Record) -> Iterator[StoredFile]:
    """Yield the files of one eligible row: its own, then its base's."""
    whole = record["packaging"] == "pipeline"
    for file in json.loads(record["files"]):
        component = _component(file["path"], record["subfolder"]) if whole else None
        yield _stored(file, f"{record['repo_id']}@{record['revision']}", component)
    if (base := base_of(record)) is not None:
        for file in base["files"]:
            yield _stored(file, f"{base['repo_id']}@{base['revision']}", None)


def base_of(record: Record) -> dict[str, Any] | None:
    """Return what the row's generator is loaded into."""
    return json.loads(record["base"]) if record["base"] else None


def _stored(file: Mapping[str, Any], repo: str, component: str | None) -> StoredFile:
    digest = file["sha256"]
    return StoredFile(digest or f"{repo}/{file['path']}", file["size"], component, digest is not None)


def _component(path: str, subfolder: str | None) -> str:
    inside = path.removeprefix(f"{subfolder}/") if subfolder else path
    return inside.split("/")[0] if "/" in inside else "whole model"


@dataclass(frozen=True)
class SharedComponent:
    """How often the parts of one name are the same, over the whole pipelines of a catalog.

    Attributes:
        models: pipelines that have such a part.
        distinct: different contents among them.
        sharing: pipelines whose part another one has too.
        bytes_saved: what need not be fetched again.
    """

    component: str
    models: int
    distinct: int
    sharing: int
    bytes_saved: int

    @property
    def identical_share(self) -> float:
        """Share of the parts that are copies of another's."""
        return 1 - self.distinct / self.models


@dataclass
class CatalogBytes:
    """Sums over the generators that were added.

    Attributes:
        naive: bytes when every generator fetches all of its files.
        unhashed_files: files whose content the hub does not tell, so that nothing can be said of copies.
    """

    naive: int = 0
    unhashed_files: int = 0
    weight_files: int = 0
    _sizes: dict[str, int] = field(default_factory=dict)
    _models: dict[str, dict[str, int]] = field(default_factory=dict)
    _parts: dict[str, Counter[tuple[str, ...]]] = field(default_factory=lambda: defaultdict(Counter))
    _part_bytes: dict[tuple[str, ...], int] = field(default_factory=dict)
    _parts_of: list[list[tuple[str, tuple[str, ...]]]] = field(default_factory=list)

    def add(self, generator: str, files: Iterable[StoredFile]) -> None:
        """Count one generator."""
        own: dict[str, int] = {}
        parts: dict[str, dict[str, int]] = defaultdict(dict)
        for file in files:
            self.weight_files += 1
            self.unhashed_files += not file.hashed
            self.naive += file.size
            own[file.identity] = file.size
            if file.component is not None:
                parts[file.component][file.identity] = file.size
        self._sizes |= own
        self._models[generator] = own
        known = []
        for component, content in parts.items():
            key = tuple(sorted(content))
            self._parts[component][key] += 1
            self._part_bytes[key] = sum(content.values())
            known.append((component, key))
        if known:
            self._parts_of.append(known)

    @property
    def unique(self) -> int:
        """Bytes when every content is fetched once."""
        return sum(self._sizes.values())

    @property
    def distinct_files(self) -> int:
        return len(self._sizes)

    def largest(self, count: int) -> int:
        """Bytes of the `count` largest generators side by side, what they share counted once."""
        ordered = sorted(self._models.values(), key=lambda own: -sum(own.values()))
        together: dict[str, int] = {}
        for own in ordered[:count]:
            together |= own
        return sum(together.values())

    def components(self) -> list[SharedComponent]:
        """Return each named part of the pipelines, the most common first."""
        shared = [
            SharedComponent(
                component=name,
                models=contents.total(),
                distinct=len(contents),
                sharing=sum(count for count in contents.values() if count > 1),
                bytes_saved=sum((count - 1) * self._part_bytes[key] for key, count in contents.items()),
            )
            for name, contents in self._parts.items()
        ]
        return sorted(shared, key=lambda part: (-part.models, part.component))

    @property
    def pipelines(self) -> int:
        """Whole pipelines that have parts."""
        return len(self._parts_of)

    @property
    def pipelines_sharing(self) -> int:
        """Whole pipelines of which at least one part is another's too."""
        return sum(any(self._parts[name][key] > 1 for name, key in parts) for parts in self._parts_of)
