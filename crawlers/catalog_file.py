"""The catalog on disk: written whole or not at all, with the request that it answers in the file itself."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from crawlers.crawl_request import CrawlRequest
from manifests.catalog import CATALOG_SCHEMA, CatalogRow
from manifests.errors import InputError
from manifests.frozen import FrozenModel

_METADATA_KEY = b"commforge"
_ROW_GROUP = 1000


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


def read_rows(file: Path) -> Iterator[CatalogRow]:
    """Yield the rows of a catalog, a row group in memory at a time."""
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(_ROW_GROUP):
            yield from (CatalogRow.from_record(record) for record in batch.to_pylist())


def write_catalog(file: Path, header: CatalogHeader, rows: Iterable[CatalogRow]) -> None:
    """Write a catalog beside its place, then put it there in one step."""
    metadata = {_METADATA_KEY: header.model_dump_json().encode()}
    schema = CATALOG_SCHEMA.with_metadata(metadata)
    part = file.with_name(f"{file.name}.part")
    with part.open("wb") as sink:
        with pq.ParquetWriter(sink, schema) as writer:
            for group in _groups(rows):
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
        sink.flush()
        os.fsync(sink.fileno())
    part.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _groups(rows: Iterable[CatalogRow]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    for row in rows:
        group.append(row.to_record())
        if len(group) == _ROW_GROUP:
            yield group
            group = []
    if group:
        yield group
