"""How a unit's images and rows become two files of the dataset.

A worker spools locally, then publishes each file whole under a name that holds its hash. Nothing published here is part
of the dataset yet: the receipt goes to the driver, and only its commit counts. A worker that dies, or that outlives its
driver, leaves files that no commit names and nobody reads; `shards.gc` removes them.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from manifests.errors import InputError
from shards import layout, storage
from shards.identifiers import sha256_bytes, sha256_file
from shards.image_formats import IMAGE_FORMATS
from shards.parquet_file import write_rows
from shards.receipt import FileRecord, Receipt
from shards.row_rules import RowError, checked_row
from shards.schema import ROW_SCHEMA
from shards.tar_file import TarWriter

__all__ = ["FileRecord", "Receipt", "RowError", "UnitWriter"]


class UnitWriter:
    """Collects one unit's draws and publishes them. Use as a context manager: leaving it discards what is unpublished.

    `dataset` is an existing DATASET; `spool` a local folder (made if needed) that may be on another file system.
    Raises InputError when `dataset` is no dataset on this machine, RowError for a bad unit or generator name.
    """

    def __init__(self, dataset: Path, spool: Path, unit: str, generator: str) -> None:
        self._dataset = storage.local_root(dataset)
        if not (self._dataset / layout.MANIFEST).is_file():
            raise InputError(
                f"{self._dataset}: no dataset here ({layout.MANIFEST} is missing); every worker must see it"
            )
        if not layout.is_unit(unit):
            raise RowError(f"unit {unit!r}: allowed are 1 to 80 letters, digits, '_' and '-'")
        if not layout.is_generator(generator):
            raise RowError(f"generator {generator!r}: allowed are 1 to 128 letters, digits, '.', '_' and '-'")
        self._unit = unit
        self._generator = generator
        spool.mkdir(parents=True, exist_ok=True)
        self._spool = Path(tempfile.mkdtemp(prefix=f"{unit}-", dir=spool))
        self._tar: TarWriter | None = None
        self._rows: list[dict[str, Any]] = []
        self._ids: set[str] = set()
        self._done = False

    def add(self, row: Mapping[str, Any], image: bytes | None = None) -> None:
        """Take one draw: its row and, when one is to be stored, its encoded image.

        Fills file, offset, length and sha256. Everything is validated before the first byte is spooled, so a RowError
        leaves the unit as it was.
        """
        self._check_open()
        plain = checked_row(row, image)
        who = f"row {plain['image_id']!r}"
        for column, expected in (("unit", self._unit), ("generator", self._generator)):
            if plain[column] != expected:
                raise RowError(f"{who}: column {column!r} is {plain[column]!r}, but the writer's is {expected!r}")
        if self._rows and plain["generation"] != self._rows[0]["generation"]:
            raise RowError(f"{who}: generation {plain['generation']}, but the unit's is {self._rows[0]['generation']}")
        if plain["image_id"] in self._ids:
            raise RowError(f"{who}: image_id is already in this unit")
        if image is not None:
            digest = sha256_bytes(image)
            if plain["sha256"] not in (None, digest):
                raise RowError(f"{who}: column 'sha256' is {plain['sha256']}, but the image's is {digest}")
            member = f"{plain['image_id']}.{IMAGE_FORMATS[plain['format']].extension}"
            plain |= {"sha256": digest, "offset": self._spool_image(member, image), "length": len(image)}
        self._rows.append(plain)
        self._ids.add(plain["image_id"])

    def publish(self) -> Receipt:
        """Publish the tar (when there is an image) and then the rows; the spool is emptied.

        Equal draws give equal files under equal names, so publishing twice is harmless. Raises RowError for a unit
        without draws, OSError when the disk refuses.
        """
        self._check_open()
        if not self._rows:
            raise RowError(f"unit {self._unit!r}: a unit has at least one draw")
        images = self._publish_images()
        for row in self._rows:
            if row["offset"] is not None and images is not None:
                row["file"] = images.name
        rows = self._publish_rows()
        receipt = Receipt(
            unit=self._unit,
            generator=self._generator,
            generation=self._rows[0]["generation"],
            images=images,
            rows=rows,
            counts=Counter(row["status"] for row in self._rows),
            reasons=Counter(row["reason"] for row in self._rows),
        )
        self.discard()
        return receipt

    def discard(self) -> None:
        """Throw away the spool. Published files stay; calling it twice is harmless."""
        self._done = True
        if self._tar is not None:
            self._tar.abandon()
        shutil.rmtree(self._spool, ignore_errors=True)

    def __enter__(self) -> UnitWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def _check_open(self) -> None:
        if self._done:
            raise ValueError(f"unit {self._unit!r}: the writer is already published or discarded")

    def _spool_image(self, member: str, image: bytes) -> int:
        if self._tar is None:
            self._tar = TarWriter(self._spool / "images.tar")
        try:
            return self._tar.add(member, image)
        except OSError:  # a full disk: the tar may end anywhere now, so the unit cannot go on
            self.discard()
            raise

    def _publish_images(self) -> FileRecord | None:
        if self._tar is None:
            return None
        digest, size = self._tar.close()
        return self._publish(layout.IMAGES, self._spool / "images.tar", digest, size)

    def _publish_rows(self) -> FileRecord:
        path = self._spool / "rows.parquet"
        write_rows(pa.Table.from_pylist(self._rows, schema=ROW_SCHEMA), path)
        return self._publish(layout.ROWS, path, sha256_file(path), path.stat().st_size)

    def _publish(self, kind: str, path: Path, digest: str, size: int) -> FileRecord:
        name = layout.shard_name(kind, self._generator, self._unit, digest)
        storage.publish(path, self._dataset / name)
        return FileRecord(name=name, sha256=digest, bytes=size)
