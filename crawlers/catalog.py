"""Read a catalog: the rows of a crawl, and the generators among them."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manifests.catalog import CATALOG_SCHEMA, CatalogRow
from manifests.errors import InputError
from manifests.generator import GeneratorSpec

if TYPE_CHECKING:
    import pyarrow as pa

CATALOG_FILE = "catalog.parquet"


def read_catalog(path: Path) -> list[CatalogRow]:
    """Return all rows of a catalog in their order. For a few columns of a large one, see `read_columns`.

    Args:
        path: the file, or the folder that `crawl` wrote it to.

    Raises:
        InputError: there is no such file, or it is not a catalog of this version.
    """
    with _without_collection():
        return _rows(path, _read(path))


def read_columns(path: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    """Return some columns of all rows in order, as stored; many times faster than the rows, and smaller.

    Raises:
        InputError: as `read_catalog`.
        KeyError: a name is no column of a catalog.
    """
    for name in names:
        if name not in CATALOG_SCHEMA.names:
            raise KeyError(name)
    table = _read(path, names)
    return {name: table[name].to_pylist() for name in names}


def eligible_generators(path: Path) -> list[GeneratorSpec]:
    """Return the generators of a catalog's eligible rows, in rank order.

    Raises:
        InputError: as `read_catalog`; or a row is eligible and lacks what a generator needs.
    """
    with _without_collection():
        table = _read(path)
        eligible = table.filter(table["eligible"]).sort_by("rank")
        return [_generator(path, row) for row in _rows(path, eligible)]


def _generator(path: Path, row: CatalogRow) -> GeneratorSpec:
    try:
        return row.to_generator()
    except ValueError as error:
        raise InputError(f"{path}: {row.repo_id} is eligible and cannot be a generator: {error}") from error


@contextmanager
def _without_collection() -> Iterator[None]:
    """Pause the cyclic garbage collector: among half a million new objects, none of them garbage, it takes more time
    than reading them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _read(path: Path, columns: Sequence[str] | None = None) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = catalog_file(path)
    if not file.is_file():
        raise InputError(f"{file}: no such catalog; make one with `commforge crawl`")
    try:
        # One opened file: a crawl that puts another in its place meanwhile changes nothing here.
        with pq.ParquetFile(file) as parquet:
            schema = parquet.schema_arrow
            if not schema.equals(CATALOG_SCHEMA, check_metadata=False):
                missing = sorted(set(CATALOG_SCHEMA.names) - set(schema.names))
                extra = sorted(set(schema.names) - set(CATALOG_SCHEMA.names))
                other = f"missing columns {missing}, unknown columns {extra}"
                what = other if missing or extra else "other column types"
                raise InputError(f"{file}: not a catalog of this version: {what}")
            return parquet.read(columns=None if columns is None else list(columns))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file}: cannot be read as Parquet: {error}") from error


def _rows(path: Path, table: "pa.Table") -> list[CatalogRow]:
    rows: list[CatalogRow] = []
    for batch in table.to_batches(max_chunksize=1000):
        for record in batch.to_pylist():
            try:
                rows.append(CatalogRow.from_record(record))
            except (ValueError, TypeError, KeyError) as error:
                row = f"row {len(rows) + 1} ({record.get('repo_id')!r})"
                raise InputError(f"{catalog_file(path)}: {row} is not a catalog row: {error}") from error
    return rows


def catalog_file(path: Path) -> Path:
    """Return the catalog's file, given itself or the folder that it lies in."""
    return path / CATALOG_FILE if path.is_dir() else path
