"""prompts.parquet: the prompts of a run. It only grows: rows once written keep their place and their values.

Which prompt a draw gets depends on the table's order, so an insertion or a reordering would change planned images.
"""

import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from manifests.errors import InputError, system_words
from manifests.prompts import PROMPT_SCHEMA, Prompt
from shards import storage


@dataclass(frozen=True)
class Appended:
    """What became of the prompts given: new rows, those that the table had already, and blank ones, dropped."""

    added: int
    known: int
    blank: int


def append_prompts(path: Path, prompts: Iterable[Prompt]) -> Appended:
    """Add the prompts whose id the table lacks, in order, after the rows it has; the table is made if needed.

    The file is replaced as a whole or not at all. Nothing to add leaves an existing file untouched.

    Raises:
        InputError: see `read_prompt_table`; or the file's folder cannot be written.
    """
    table = read_prompt_table(path) if path.exists() else PROMPT_SCHEMA.empty_table()
    ids = set(table["prompt_id"].to_pylist())
    fresh: list[Prompt] = []
    known = blank = 0
    for prompt in prompts:
        if not prompt.prompt.strip():
            blank += 1
        elif prompt.prompt_id in ids:
            known += 1
        else:
            ids.add(prompt.prompt_id)
            fresh.append(prompt)
    if fresh or not path.exists():
        rows = pa.Table.from_pylist([prompt.model_dump() for prompt in fresh], schema=PROMPT_SCHEMA)
        _replace(path, pa.concat_tables([table, rows]))
    return Appended(added=len(fresh), known=known, blank=blank)


def read_prompts(path: Path) -> list[Prompt]:
    """Return the table's prompts in its order. Errors as `read_prompt_table`."""
    return [Prompt.model_validate(row) for row in read_prompt_table(path).to_pylist()]


def read_prompt_table(path: Path) -> pa.Table:
    """Return the table as Arrow, its columns in PROMPT_SCHEMA's order.

    Raises:
        InputError: the file is missing or no Parquet, a column is missing, unknown or of another type, a value that is
            required is null, or an id is there twice.
    """
    try:
        table = pq.ParquetFile(path).read()  # read_table would load pandas
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {str(error).splitlines()[0]}") from error
    missing = [name for name in PROMPT_SCHEMA.names if name not in table.column_names]
    if missing:
        raise InputError(f"{path}: the column {missing[0]!r} is missing; a prompt table has {_columns()}")
    unknown = [name for name in table.column_names if name not in PROMPT_SCHEMA.names]
    if unknown:
        raise InputError(f"{path}: unknown column {unknown[0]!r}; a prompt table has {_columns()}")
    for field in PROMPT_SCHEMA:
        column = table[field.name]
        if column.type not in (field.type, pa.large_string()) and not pa.types.is_null(column.type):
            raise InputError(f"{path}: column {field.name!r} is {column.type}; it must be {field.type}")
        if not field.nullable and column.null_count:
            row = column.is_null().to_pylist().index(True)
            raise InputError(f"{path}: row {row}: column {field.name!r} must not be null")
    twice = [prompt_id for prompt_id, times in Counter(table["prompt_id"].to_pylist()).items() if times > 1]
    if twice:
        raise InputError(f"{path}: prompt_id {twice[0]!r} is there twice")
    return table.select(PROMPT_SCHEMA.names).cast(PROMPT_SCHEMA)


def _columns() -> str:
    return ", ".join(PROMPT_SCHEMA.names)


def _replace(path: Path, table: pa.Table) -> None:
    content = io.BytesIO()
    pq.write_table(table, content, compression="zstd")
    try:
        storage.make_folder(path.parent)
        storage.replace(path, content.getvalue())
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {system_words(error)}") from error
