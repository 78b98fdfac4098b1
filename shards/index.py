"""The index: every committed row in one Parquet file, for pandas, DuckDB and polars, and the pairs of fake and real.

Both files are derived and may be deleted. Each carries a fingerprint of the commits that it was made from, so anyone
can tell whether it still says what the dataset says, and building it again without new commits does nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shards import layout, reader, storage
from shards.commit_log import CommitLog
from shards.commits import Commit
from shards.dataset import Dataset
from shards.parquet_file import INDEX_OPTIONS
from shards.schema import ROW_SCHEMA
from shards.statuses import Status

PAIR_SCHEMA: pa.Schema = pa.schema([("fake_id", pa.string()), ("real_id", pa.string()), ("rule", pa.string())])
"""One row per pair: the image_id of a fake, the image_id of the real it belongs to, and the rule that says so."""

PROMPT_SOURCE_IMAGE = "prompt_source_image"
"""The rule that pairs an ok fake with the ok real image whose caption was its prompt (source_image_id)."""

_FINGERPRINT = b"commforge.commits"
_UNITS_AT_ONCE = 1024  # bounds memory: rows are compacted this many shards at a time


@dataclass(frozen=True, slots=True)
class IndexBuilt:
    """How many rows and pairs the index has, and whether it was written now or was current already."""

    rows: int
    pairs: int
    written: bool

    def __str__(self) -> str:
        state = "written" if self.written else "already current"
        return f"{layout.INDEX}: {self.rows} rows, {layout.PAIRS}: {self.pairs} pairs ({state})"


@dataclass(frozen=True, slots=True)
class IndexState:
    """Whether index and pairs are there, and whether they say what the commits say."""

    exists: bool
    current: bool

    @property
    def stale(self) -> bool:
        """There, but made from other commits than the dataset has now."""
        return self.exists and not self.current


def index_state(root: Path) -> IndexState:
    """State of the index, from commit file names and two Parquet footers. Raises InputError when this is no dataset."""
    root = storage.local_root(root)
    recorded = [_recorded_fingerprint(root / name) for name in (layout.INDEX, layout.PAIRS)]
    fingerprint = _fingerprint(CommitLog(root).generations())
    return IndexState(exists=any(recorded), current=all(found == fingerprint for found in recorded))


def build_index(root: Path) -> IndexBuilt:
    """Write index/rows.parquet and pairs.parquet from the committed rows, each replaced at once; nothing is done when
    both are current.

    Raises InputError when this is no dataset, ShardDamaged when a committed rows file cannot be read; the old index
    then stays.
    """
    dataset = Dataset.open(root)
    if index_state(dataset.root).current:
        return _built(dataset.root, written=False)
    winners = dataset.commits()  # read once: both files describe these commits, whatever is committed meanwhile
    fingerprint = _fingerprint({unit: commit.generation for unit, commit in winners.items()})
    ordered = reader.in_reading_order(winners.values())
    _write(dataset.root / layout.INDEX, ROW_SCHEMA, _row_groups(dataset.root, ordered), fingerprint)
    _write(dataset.root / layout.PAIRS, PAIR_SCHEMA, iter([_pairs(dataset.root, ordered)]), fingerprint)
    return _built(dataset.root, written=True)


def _built(root: Path, written: bool) -> IndexBuilt:
    rows, pairs = (pq.read_metadata(root / name).num_rows for name in (layout.INDEX, layout.PAIRS))
    return IndexBuilt(rows, pairs, written)


def _row_groups(root: Path, commits: list[Commit]) -> Iterator[pa.Table]:
    for start in range(0, len(commits), _UNITS_AT_ONCE):
        yield reader.read_rows(root, commits[start : start + _UNITS_AT_ONCE])


def _pairs(root: Path, commits: list[Commit]) -> pa.Table:
    ok = [Status.ok]
    reals = reader.read_rows(root, commits, columns=["image_id"], label=0, status=ok)
    fakes = reader.read_rows(root, commits, columns=["image_id", "source_image_id"], label=1, status=ok)
    paired = fakes.filter(pc.is_in(fakes["source_image_id"], value_set=reals["image_id"].combine_chunks()))
    rule = pa.repeat(pa.scalar(PROMPT_SOURCE_IMAGE), paired.num_rows)
    return pa.table([paired["image_id"], paired["source_image_id"], rule], schema=PAIR_SCHEMA)


def _write(path: Path, schema: pa.Schema, tables: Iterator[pa.Table], fingerprint: bytes) -> None:
    storage.make_folder(path.parent)
    temporary = storage.temporary_beside(path)
    try:
        with pq.ParquetWriter(temporary, schema, **INDEX_OPTIONS) as writer:
            for table in tables:
                writer.write_table(table)
            writer.add_key_value_metadata({_FINGERPRINT: fingerprint})
        storage.publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _fingerprint(generations: dict[str, int]) -> bytes:
    """Commits are immutable, so the winners' names say everything."""
    names = "\n".join(layout.commit_name(unit, generation) for unit, generation in sorted(generations.items()))
    return hashlib.sha256(names.encode()).hexdigest().encode()


def _recorded_fingerprint(path: Path) -> bytes | None:
    try:
        metadata = pq.read_metadata(path).metadata or {}
    except FileNotFoundError:
        return None
    except pa.ArrowInvalid:  # damaged: as good as stale, the next build replaces it
        return b"unreadable"
    recorded: bytes = metadata.get(_FINGERPRINT, b"unknown")
    return recorded
