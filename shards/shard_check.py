"""The check of one committed unit: files against the commit, rows against the commit, images against the rows."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shards import storage
from shards.commits import Commit
from shards.findings import Finding, Kind
from shards.identifiers import sha256_bytes, sha256_file
from shards.receipt import FileRecord
from shards.schema import ROW_SCHEMA
from shards.statuses import Reason, Status


@dataclass(slots=True)
class UnitCheck:
    """What the check of a unit found, and its image ids for the checks across units."""

    commit: Commit
    findings: list[Finding] = field(default_factory=list)
    image_ids: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))


def check_unit(root: Path, commit: Commit) -> UnitCheck:
    """Read a unit's files in full. A file that fails its own check is not looked into further, except that a tar with
    the wrong hash is searched for the images that changed."""
    check = UnitCheck(commit)
    missing = [record for record in commit.files if not (root / record.name).is_file()]
    if len(missing) == len(commit.files):
        names = " and ".join(record.name for record in missing)
        check.findings.append(Finding.of(Kind.commit_without_shard, commit.file, f"{names}: not there"))
        return check
    for record in missing:
        check.findings.append(Finding.of(Kind.missing_shard, record.name, f"named by {commit.file}, not there"))
    damaged = {
        record.name: finding
        for record in commit.files
        if record not in missing and (finding := _check_bytes(root, record)) is not None
    }
    check.findings.extend(damaged.values())
    if commit.rows in missing or commit.rows.name in damaged:
        return check
    table = _read_rows(root, commit.rows, check)
    if table is None:
        return check
    check.image_ids = table["image_id"].combine_chunks()
    rows = table.to_pylist()
    check.findings.extend(_check_rows(commit, rows))
    if commit.images is None:
        check.findings.extend(
            Finding.of(Kind.row_without_image, commit.rows.name, f"image {row['image_id']}: its commit names no tar")
            for row in rows
            if row["file"] is not None
        )
    elif commit.images not in missing:
        check.findings.extend(_check_images(root, commit.images, rows, damaged.get(commit.images.name)))
    return check


def _check_bytes(root: Path, record: FileRecord) -> Finding | None:
    size = (root / record.name).stat().st_size
    if size < record.bytes:
        return Finding.of(Kind.truncated_shard, record.name, f"{size} bytes of {record.bytes}")
    digest = sha256_file(root / record.name)
    if digest != record.sha256:
        return Finding.of(Kind.shard_hash, record.name, f"SHA-256 is {digest}, committed was {record.sha256}")
    return None


def _read_rows(root: Path, record: FileRecord, check: UnitCheck) -> pa.Table | None:
    try:
        table = pq.ParquetFile(root / record.name).read()
    except (OSError, pa.ArrowInvalid) as error:
        check.findings.append(Finding.of(Kind.unreadable_shard, record.name, f"not a Parquet file: {error}"))
        return None
    if not table.schema.equals(ROW_SCHEMA):
        differing = sorted({str(item) for item in table.schema} ^ {str(item) for item in ROW_SCHEMA})
        detail = f"columns differ from the schema: {', '.join(differing) or 'another order'}"
        check.findings.append(Finding.of(Kind.unreadable_shard, record.name, detail))
        return None
    return table


def _check_rows(commit: Commit, rows: list[dict[str, Any]]) -> Iterator[Finding]:
    """Rows against their commit, and the reconciliation: every draw is one row with one status."""
    name = commit.rows.name
    expected = {key: getattr(commit, key) for key in ("unit", "generation", "generator", "label")}
    for row in rows:
        for key, value in expected.items():
            if row[key] != value:
                detail = f"image {row['image_id']}: {key} is {row[key]!r}, but {commit.file} says {value!r}"
                yield Finding.of(Kind.row_mismatch, name, detail)
        if row["reason"] not in list(Reason) or Reason(row["reason"]).status != row["status"]:
            detail = f"image {row['image_id']}: status {row['status']!r} cannot have reason {row['reason']!r}"
            yield Finding.of(Kind.row_mismatch, name, detail)
        if row["file"] is None and row["status"] == Status.ok:
            yield Finding.of(
                Kind.row_without_image, name, f"image {row['image_id']}: status ok, but no image is stored"
            )
    yield from _reconcile(commit, rows)


def _reconcile(commit: Commit, rows: list[dict[str, Any]]) -> Iterator[Finding]:
    name = commit.rows.name
    for column, committed in (("status", commit.counts), ("reason", commit.reasons)):
        counted = dict(Counter(row[column] for row in rows))
        if counted != committed:
            detail = f"by {column} the rows say {_spelled(counted)}, but {commit.file} says {_spelled(committed)}"
            yield Finding.of(Kind.counts, name, detail)
    draws = Counter(row["index"] for row in rows)
    twice = sorted(index for index, times in draws.items() if times > 1)
    if twice:
        yield Finding.of(Kind.counts, name, f"draw {twice[0]} has more than one row")
    last = commit.first + commit.count - 1
    targets = {index for index in draws if index >= 0}
    outside = sorted(index for index in targets if not commit.first <= index <= last)
    if outside:
        yield Finding.of(Kind.counts, name, f"draw {outside[0]} is not one of the unit's ({commit.first} to {last})")
    absent = commit.count - len(targets - set(outside))
    if absent:
        yield Finding.of(Kind.counts, name, f"{absent} of the draws {commit.first} to {last} have no row")
    made = sum(row["status"] == Status.ok for row in rows)
    if made > commit.count:
        yield Finding.of(Kind.counts, name, f"{made} ok images, but {commit.count} were wanted")


def _check_images(
    root: Path, record: FileRecord, rows: list[dict[str, Any]], damage: Finding | None
) -> Iterator[Finding]:
    """Rows against the tar's own table of members, read by `tarfile`, and each image's bytes against its row."""
    try:
        with tarfile.open(root / record.name, "r:") as tar:
            members = {member.name: (member.offset_data, member.size) for member in tar.getmembers()}
    except tarfile.TarError as error:
        if damage is None:
            yield Finding.of(Kind.unreadable_shard, record.name, f"not a tar: {error}")
        return
    by_id = {PurePosixPath(name).stem: (name, place) for name, place in members.items()}
    claimed: set[str] = set()
    for row in rows:
        if row["file"] is None:
            continue
        who = f"image {row['image_id']}"
        name, place = by_id.get(row["image_id"], (None, None))
        if name is not None:
            claimed.add(name)
        if row["file"] != record.name or place != (row["offset"], row["length"]):
            points = f"points at {row['file']} offset {row['offset']} length {row['length']}"
            found = "no such member" if name is None else f"its member {name} is at {place}"
            yield Finding.of(Kind.row_without_image, record.name, f"{who}: {points}; {found}")
        elif sha256_bytes(storage.read_range(root / record.name, *place)) != row["sha256"]:
            yield Finding.of(Kind.image_hash, record.name, f"{who}: the bytes of member {name} have another SHA-256")
    for name in sorted(set(members) - claimed):
        yield Finding.of(Kind.image_without_row, record.name, f"no row points at member {name}")


def _spelled(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {draws}" for name, draws in sorted(counts.items())) or "none"
