"""A dataset folder: what it is called, what its bytes depend on, and the way to its rows and images."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, ValidationError

from manifests.errors import InputError, system_words
from manifests.frozen import FrozenModel
from shards import layout, reader, storage
from shards.commit_cache import CommitSummary
from shards.commit_log import CommitLog
from shards.commits import Commit
from shards.identifiers import canonical_json

SCHEMA_VERSION = 1


class IdentityChanged(InputError):  # noqa: N818
    """The settings that decide the dataset's bytes are not the ones it was made with. Names each differing key."""


class DatasetManifest(FrozenModel):
    """What dataset.json holds."""

    schema_version: Literal[1]
    name: str = Field(min_length=1)
    licence_notes: str = ""
    identity: dict[str, Any] = Field(description="settings that affect bytes; a run with others is refused")
    snapshots: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="catalog snapshots that the units were planned from: name -> what is known of it",
    )


class Dataset:
    """A dataset on a local or mounted file system. Make one with `Dataset.create` or `Dataset.open`."""

    def __init__(self, root: Path, manifest: DatasetManifest) -> None:
        self.root = root
        self.manifest = manifest
        self.log = CommitLog(root)

    @classmethod
    def create(cls, root: Path, name: str, identity: Mapping[str, Any], licence_notes: str = "") -> Dataset:
        """Make an empty dataset; of several racers one succeeds. Raises InputError when there already is one."""
        root = storage.local_root(root)
        manifest = DatasetManifest(
            schema_version=SCHEMA_VERSION, name=name, licence_notes=licence_notes, identity=_plain(identity)
        )
        try:
            for folder in (layout.COMMITS, layout.IMAGES, layout.ROWS):
                storage.make_folder(root / folder)
            storage.create(root / layout.MANIFEST, _encoded(manifest))
        except FileExistsError as error:
            raise InputError(
                f"{root / layout.MANIFEST}: already there; open this dataset or choose another folder"
            ) from error
        except PermissionError as error:
            raise InputError(f"{root}: a dataset cannot be made here: {system_words(error)}") from error
        return cls(root, manifest)

    @classmethod
    def open(cls, root: Path) -> Dataset:
        """Open a dataset. Raises InputError when there is none, or dataset.json is damaged or of another version."""
        root = storage.local_root(root)
        return cls(root, _read_manifest(root / layout.MANIFEST))

    @property
    def name(self) -> str:
        """The dataset's name."""
        return self.manifest.name

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that affect bytes, as plain JSON values."""
        return self.manifest.identity

    def check_identity(self, identity: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> None:
        """Raises IdentityChanged naming each differing key with its old and new value.

        A setting that the dataset does not know, because it is younger, was at its default: `defaults` says which.
        """
        new = _flat(_plain(identity))
        old = _flat(_plain(defaults or {})) | _flat(self.identity)
        old = {key: value for key, value in old.items() if key in new or key in _flat(self.identity)}
        differing = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
        if differing:
            changes = "; ".join(f"{key}: {old.get(key, 'not set')} -> {new.get(key, 'not set')}" for key in differing)
            raise IdentityChanged(
                f"{self.root / layout.MANIFEST}: these settings decide the images' bytes and differ from the dataset's "
                f"({changes}); set them back, or use another dataset folder"
            )

    def add_snapshot(self, name: str, details: Mapping[str, Any]) -> None:
        """Record a catalog snapshot that units are planned from. The caller holds the run lock. Idempotent.

        Raises InputError when a snapshot of that name is recorded with other details.
        """
        manifest = _read_manifest(self.root / layout.MANIFEST)
        plain = _plain(details)
        if name in manifest.snapshots and manifest.snapshots[name] != plain:
            raise InputError(f"{self.root / layout.MANIFEST}: snapshot {name!r} is already recorded with other details")
        if name not in manifest.snapshots:
            manifest = manifest.model_copy(update={"snapshots": manifest.snapshots | {name: plain}})
            storage.replace(self.root / layout.MANIFEST, _encoded(manifest))
        self.manifest = manifest

    def commits(self) -> dict[str, Commit]:
        """unit -> winning commit. Only commits that are new since the last call are opened."""
        return self.log.winners()

    def summaries(self) -> dict[str, CommitSummary]:
        """unit -> what its winning commit comes to, in little memory and time; see `CommitLog.summaries`."""
        return self.log.summaries()

    def rows(
        self,
        columns: Collection[str] | None = None,
        label: int | None = None,
        generator: str | Collection[str] | None = None,
        status: str | Collection[str] | None = None,
        where: pc.Expression | None = None,
    ) -> pa.Table:
        """The committed rows, read from the shards and filtered; see `shards.reader.read_rows`."""
        if label is None and generator is None:
            chosen = list(self.commits().values())
        else:  # the files of the other commits need not be opened
            generators = {generator} if isinstance(generator, str) else generator
            chosen = [
                self.log.read(summary.unit, summary.generation)
                for summary in self.summaries().values()
                if (label is None or summary.label == label) and (generators is None or summary.generator in generators)
            ]
        return reader.read_rows(
            self.root,
            chosen,
            columns=columns,
            label=label,
            generator=generator,
            status=status,
            where=where,
        )

    def image_bytes(self, row: Mapping[str, Any], verify: bool = False) -> bytes:
        """The stored bytes of a row's image, by one ranged read; see `shards.reader.image_bytes`."""
        return reader.image_bytes(self.root, row, verify=verify)

    def images(
        self, rows: Iterable[Mapping[str, Any]], verify: bool = False
    ) -> Iterator[tuple[Mapping[str, Any], bytes]]:
        """(row, bytes) of each row that has an image; see `shards.reader.iterate_images`."""
        return reader.iterate_images(self.root, rows, verify=verify)


def _read_manifest(path: Path) -> DatasetManifest:
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path.parent}: no dataset here ({layout.MANIFEST} is missing)") from error
    except ValueError as error:  # not JSON, or not UTF-8
        raise InputError(f"{path}: damaged: {error}") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(f"{path}: schema_version is {version!r}; this release reads {SCHEMA_VERSION}")
    try:
        return DatasetManifest.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _encoded(manifest: DatasetManifest) -> bytes:
    return json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Through JSON and back, so that a tuple equals the list it is read back as."""
    plain: dict[str, Any] = json.loads(canonical_json(dict(settings)))
    return plain


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """{"a": {"b": 1}} as {"a.b": "1"}; values as JSON."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = canonical_json(value)
    return flat
