"""The catalog on disk: written whole or not at all, with the request that it answers in the file itself."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from crawlers.crawling.crawl_request import CrawlRequest
from manifests.catalog import CATALOG_SCHEMA
from manifests.errors import InputError
from manifests.frozen import FrozenModel

_METADATA_KEY = b"commforge"
_GROUP_ROWS = 10_000
_GROUP_BYTES = 8 * 2**20
"""Of the lists of files, which are by far the largest part of a row: a group is built in memory."""
BATCH_ROWS = 2_000

Record = dict[str, Any]
"""A row as CATALOG_SCHEMA stores it."""


class CatalogHeader(FrozenModel):
    """What the file says of itself.

    Attributes:
        snapshots: ids of the crawls that wrote it, oldest first; the last one is the catalog's.
        request: everything that was asked for so far.
        listed: rows that came from the hub's listing, as opposed to by name only.
    """

    snapshots: tuple[str, ...] = Field(min_length=1)
    request: CrawlRequest
    listed: int = Field(ge=0)

    @property
    def snapshot(self) -> str:
        return self.snapshots[-1]


def read_header(file: Path) -> CatalogHeader | None:
    """Return the header of a catalog, None if the file is not there.

    Raises:
        InputError: the file is not a catalog that `crawl` wrote.
    """
    if not file.exists():
        return None
    try:
        metadata = pq.read_schema(file).metadata or {}
        return CatalogHeader.model_validate(json.loads(metadata[_METADATA_KEY]))
    except (pa.ArrowException, OSError, KeyError, ValueError, ValidationError) as error:
        raise InputError(
            f"{file}: exists and is not a catalog that commforge wrote ({type(error).__name__})"
        ) from error


def check_columns(file: Path) -> None:
    """Raise InputError when a catalog cannot grow because another version of commforge wrote it."""
    if not pq.read_schema(file).equals(CATALOG_SCHEMA, check_metadata=False):
        raise InputError(
            f"{file}: another version of commforge wrote this catalog, with other columns; refresh it, or crawl into "
            "another folder"
        )


def read_batches(file: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a catalog in order, a few thousand in memory at a time."""
    with pq.ParquetFile(file) as parquet:
        yield from parquet.iter_batches(BATCH_ROWS, columns=None if columns is None else list(columns))


def read_records(file: Path, columns: Sequence[str]) -> Iterator[Record]:
    """Yield some columns of all rows in order."""
    for batch in read_batches(file, columns):
        yield from batch.to_pylist()


def write_catalog(file: Path, header: CatalogHeader, rows: Iterable[Record | pa.RecordBatch]) -> None:
    """Write a catalog beside its place, then put it there in one step; batches of rows are copied as they are."""
    metadata = {_METADATA_KEY: header.model_dump_json().encode()}
    schema = CATALOG_SCHEMA.with_metadata(metadata)
    part = file.with_name(f"{file.name}.part")
    with part.open("wb") as sink:
        with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
            for group in _groups(rows):
                writer.write_table(group.cast(schema))
        sink.flush()
        os.fsync(sink.fileno())
    part.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _groups(rows: Iterable[Record | pa.RecordBatch]) -> Iterator[pa.Table]:
    """Gather rows to groups that are large enough to be read quickly and small enough to be built in memory."""
    batches: list[pa.RecordBatch] = []
    records: list[Record] = []
    count = size = 0
    for row in rows:
        if isinstance(row, dict):
            records.append(row)
            count += 1
            size += len(row["files"])
        else:
            batches += [*_batches(records), row]
            records = []
            count += row.num_rows
            size += row.nbytes
        if count >= _GROUP_ROWS or size >= _GROUP_BYTES:
            yield pa.Table.from_batches([*batches, *_batches(records)])
            batches, records, count, size = [], [], 0, 0
    if count:
        yield pa.Table.from_batches([*batches, *_batches(records)])


def _batches(records: list[Record]) -> list[pa.RecordBatch]:
    return [pa.RecordBatch.from_pylist(records, schema=CATALOG_SCHEMA)] if records else []
