"""A summary of every commit in one file, so that a start over 350,000 units opens one file and not 350,000.

`index/commits.cache` is a cache and nothing more. The commit files stay the truth: which units are committed is
always read from their names; a commit that the cache lacks is opened, a cached one whose file is gone is left out, and
a cache that is missing, damaged or of another version counts as empty. It may be deleted at any time.

A commit is never changed, so a cached summary can be wrong in one way only: when somebody removed the file, and the
unit was then committed again. `CommitLog.commit` removes the cache before it makes such a file.

The file is Parquet, followed by the SHA-256 of it: Parquet's own checksums leave out the footer.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shards import storage
from shards.parquet_file import INDEX_OPTIONS

CACHE_SCHEMA: pa.Schema = pa.schema(
    [
        ("unit", pa.string()),
        ("generation", pa.int32()),
        ("generator", pa.string()),
        ("revision", pa.string()),
        ("label", pa.int8()),
        ("first", pa.int64()),
        ("count", pa.int64()),
        ("split", pa.string()),
        ("prompts", pa.int64()),
        ("retryable", pa.bool_()),
        ("stored", pa.int64()),
        ("seconds", pa.float64()),
        ("counts", pa.string()),
        ("reasons", pa.string()),
    ]
)
"""One row per unit: its highest generation when the cache was written. `counts` and `reasons` are JSON."""

_DIGEST_BYTES = 32
_REPEATED = ("generator", "revision", "split", "counts", "reasons")
"""Columns with few distinct values: each value becomes one object, however many rows have it."""


@dataclass(slots=True)
class CommitSummary:
    """What planning and counting need of a commit. `stored` is bytes of images, `seconds` the time it took.

    Not to be changed: `counts` (status to draws) and `reasons` (reason to draws) are shared between summaries. Not
    frozen, because freezing costs a microsecond for each of some hundred thousand.
    """

    unit: str
    generation: int
    generator: str
    revision: str | None
    label: int
    first: int
    count: int
    split: str | None
    prompts: int | None
    retryable: bool
    stored: int
    seconds: float
    counts: Mapping[str, int]
    reasons: Mapping[str, int]

    @property
    def draws(self) -> int:
        """How many rows the unit has."""
        return sum(self.counts.values())


def read_cache(path: Path) -> dict[str, CommitSummary]:
    """unit -> summary; empty when there is no cache, or not a whole one of this version."""
    try:
        data = path.read_bytes()
    except OSError:
        return {}
    content, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        return {}
    table = pq.ParquetFile(pa.BufferReader(content)).read()
    if not table.schema.equals(CACHE_SCHEMA, check_metadata=False):
        return {}
    columns = {name: _values(table[name], name in _REPEATED) for name in CACHE_SCHEMA.names}
    for name in ("counts", "reasons"):
        parsed = {text: json.loads(text) for text in set(columns[name])}
        columns[name] = [parsed[text] for text in columns[name]]
    return {row[0]: CommitSummary(*row) for row in zip(*columns.values(), strict=True)}


def write_cache(path: Path, summaries: Iterable[CommitSummary]) -> None:
    """Replace the cache, at once. Raises OSError when the disk refuses."""
    rows = list(summaries)
    columns: dict[str, list[Any]] = {
        field.name: [getattr(row, field.name) for row in rows] for field in fields(CommitSummary)
    }
    for name in ("counts", "reasons"):
        texts = {id(value): json.dumps(value) for value in {id(value): value for value in columns[name]}.values()}
        columns[name] = [texts[id(value)] for value in columns[name]]
    content = io.BytesIO()
    pq.write_table(pa.table(columns, schema=CACHE_SCHEMA), content, **INDEX_OPTIONS)
    content.write(hashlib.sha256(content.getvalue()).digest())
    storage.make_folder(path.parent)
    storage.replace(path, content.getvalue())


def _values(column: pa.ChunkedArray, repeated: bool) -> list[Any]:
    if not repeated:
        values: list[Any] = column.to_pylist()
        return values
    encoded = column.combine_chunks().dictionary_encode()
    distinct = encoded.dictionary.to_pylist()
    return [None if place is None else distinct[place] for place in encoded.indices.to_pylist()]
