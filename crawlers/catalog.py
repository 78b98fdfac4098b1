"""Read a catalog: the rows of a crawl, and the generators among them."""

from pathlib import Path

from manifests.catalog import CATALOG_SCHEMA, CatalogRow
from manifests.errors import InputError
from manifests.generator import GeneratorSpec

CATALOG_FILE = "catalog.parquet"


def read_catalog(path: Path) -> list[CatalogRow]:
    """Return all rows of a catalog in their order.

    Args:
        path: the file, or the folder that `crawl` wrote it to.

    Raises:
        InputError: there is no such file, or it is not a catalog of this version.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = path / CATALOG_FILE if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{file}: no such catalog; make one with `commforge crawl`")
    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file}: cannot be read as Parquet: {error}") from error
    if not table.schema.equals(CATALOG_SCHEMA, check_metadata=False):
        missing = sorted(set(CATALOG_SCHEMA.names) - set(table.schema.names))
        extra = sorted(set(table.schema.names) - set(CATALOG_SCHEMA.names))
        what = f"missing columns {missing}, unknown columns {extra}" if missing or extra else "other column types"
        raise InputError(f"{file}: not a catalog of this version: {what}")
    rows = []
    for number, record in enumerate(table.to_pylist(), start=1):
        try:
            rows.append(CatalogRow.from_record(record))
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{file}: row {number} ({record.get('repo_id')!r}) is not a catalog row: {error}"
            ) from error
    return rows


def eligible_generators(path: Path) -> list[GeneratorSpec]:
    """Return the generators of a catalog's eligible rows, in rank order.

    Raises:
        InputError: as `read_catalog`; or a row is eligible and lacks what a generator needs.
    """
    generators = []
    for row in sorted(read_catalog(path), key=lambda row: row.rank):
        if not row.eligible:
            continue
        try:
            generators.append(row.to_generator())
        except ValueError as error:
            raise InputError(f"{path}: {row.repo_id} is eligible and cannot be a generator: {error}") from error
    return generators
