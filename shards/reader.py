"""Reading committed rows and images. Nothing here lists a folder: what is not committed cannot be read by accident."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from manifests.errors import InputError
from shards import layout, storage
from shards.commits import Commit
from shards.identifiers import sha256_bytes
from shards.schema import BY_NAME, ROW_SCHEMA


class ShardDamaged(InputError):  # noqa: N818
    """A shard file that a commit names is missing, cut short, or holds other bytes. The message names the file."""


def read_rows(
    root: Path,
    commits: Iterable[Commit],
    *,
    columns: Collection[str] | None = None,
    label: int | None = None,
    generator: str | Collection[str] | None = None,
    status: str | Collection[str] | None = None,
    where: pc.Expression | None = None,
) -> pa.Table:
    """Rows of these commits, in the order label, generator, first draw, then as drawn.

    `columns`: names in the order wanted, None for all. `label`, `generator`, `status`: keep only these; the first two,
    and units without a wanted status, are decided by the commits alone, so no other file is opened. `where`: any
    further Arrow expression over row columns, selected or not.

    Raises InputError for an unknown column, ShardDamaged when a rows file is missing or cannot be read.
    """
    names = list(BY_NAME if columns is None else columns)
    unknown = sorted(set(names) - set(BY_NAME))
    if unknown:
        raise InputError(f"column {unknown[0]!r} does not exist; the columns are {', '.join(BY_NAME)}")
    generators, statuses = _names(generator), _names(status)
    chosen = [
        commit
        for commit in commits
        if (label is None or commit.label == label)
        and (generators is None or commit.generator in generators)
        and (statuses is None or not statuses.isdisjoint(commit.counts))
    ]
    paths = [root / commit.rows.name for commit in in_reading_order(chosen)]
    # Thousands of small files: a thread for each file is twice as fast as Arrow's dataset scan, which threads columns.
    with ThreadPoolExecutor(pa.cpu_count()) as pool:
        tables = list(pool.map(lambda path: _read_file(root, path, names, statuses, where), paths))
    return pa.concat_tables([_schema(names).empty_table(), *tables])


def in_reading_order(commits: Iterable[Commit]) -> list[Commit]:
    """Commits in the order in which their rows are read: label, generator, first draw, unit."""
    return sorted(commits, key=lambda commit: (commit.label, commit.generator, commit.first, commit.unit))


def image_bytes(root: Path, row: Mapping[str, Any], *, verify: bool = False) -> bytes:
    """The stored bytes of a row's image: one ranged read of its tar. `row` needs image_id, file, offset and length, and
    sha256 when `verify` is set, which compares the hash.

    Raises InputError for a row without a stored image, ShardDamaged when the bytes are not there or not the right ones.
    """
    path = root / _stored_in(row)
    try:
        data = storage.read_range(path, row["offset"], row["length"])
    except FileNotFoundError as error:
        raise ShardDamaged(f"{path}: missing, so image {row['image_id']} cannot be read") from error
    _check(path, row, data, verify)
    return data


def iterate_images(
    root: Path, rows: Iterable[Mapping[str, Any]], *, verify: bool = False
) -> Iterator[tuple[Mapping[str, Any], bytes]]:
    """(row, bytes) for each row that has a stored image, in the order given. A tar stays open while rows stay in it.

    Rows without a stored image are passed over. Raises ShardDamaged like `image_bytes`.
    """
    descriptor, opened = -1, None
    try:
        for row in rows:
            if row["file"] is None:
                continue
            path = root / _stored_in(row)
            if path != opened:
                if descriptor >= 0:
                    os.close(descriptor)
                    descriptor = -1
                try:
                    descriptor, opened = os.open(path, os.O_RDONLY), path
                except FileNotFoundError as error:
                    raise ShardDamaged(f"{path}: missing, so image {row['image_id']} cannot be read") from error
            data = storage.read_range_of(descriptor, row["offset"], row["length"])
            _check(path, row, data, verify)
            yield row, data
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _names(value: str | Collection[str] | None) -> set[str] | None:
    if value is None:
        return None
    return {value} if isinstance(value, str) else set(value)


def _stored_in(row: Mapping[str, Any]) -> str:
    name = row["file"]
    if name is None:
        raise InputError(f"image {row['image_id']}: no bytes are stored for it")
    if not isinstance(name, str) or not layout.is_relative(name):  # rows may come from an imported, hostile dataset
        raise ShardDamaged(f"image {row['image_id']}: its file {name!r} is outside the dataset")
    return name


def _check(path: Path, row: Mapping[str, Any], data: bytes, verify: bool) -> None:
    if len(data) != row["length"]:
        end = row["offset"] + row["length"]
        raise ShardDamaged(f"{path}: ends before image {row['image_id']} does (at byte {end})")
    if verify and sha256_bytes(data) != row["sha256"]:
        raise ShardDamaged(
            f"{path}: the bytes of image {row['image_id']} at offset {row['offset']} have another SHA-256"
        )


def _read_file(
    root: Path, path: Path, names: list[str], statuses: set[str] | None, where: pc.Expression | None
) -> pa.Table:
    """One rows file: these columns, and of its rows those with a wanted status for which `where` holds."""
    wanted = names
    if where is not None:  # an expression does not say which columns it needs
        wanted = list(BY_NAME)
    elif statuses is not None:
        wanted = list(dict.fromkeys([*names, "status"]))
    try:
        table = pq.ParquetFile(path).read(columns=wanted, use_threads=False)
    except FileNotFoundError as error:
        raise ShardDamaged(f"{path}: missing; run `commforge dataset verify {root}`") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise ShardDamaged(f"{path}: cannot be read ({error}); run `commforge dataset verify {root}`") from error
    if sorted(table.schema.names) != sorted(wanted) or not table.select(wanted).schema.equals(_schema(wanted)):
        raise ShardDamaged(f"{path}: its columns are not those of a rows file")
    if statuses is not None:
        table = table.filter(pc.is_in(table["status"], value_set=pa.array(sorted(statuses), pa.string())))
    if where is not None:
        table = table.filter(where)
    return table.select(names)


def _schema(names: list[str]) -> pa.Schema:
    return pa.schema([ROW_SCHEMA.field(name) for name in names])
