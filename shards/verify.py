"""Whether the dataset on disk is the dataset that was committed: reads every committed byte and says what differs.

Only the winning generation of a unit is read. What no commit names is a remark, never an error: a killed worker leaves
it, nobody reads it, and `shards.gc` removes it.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from shards import layout, storage
from shards.commit_cache import read_cache
from shards.commit_log import CommitLog, CommitUnreadable
from shards.commits import FIRST_GENERATION, Commit
from shards.dataset import Dataset
from shards.findings import Finding, Kind, errors
from shards.index import index_state
from shards.shard_check import UnitCheck, check_unit

__all__ = ["Finding", "Kind", "errors", "verify"]


def verify(root: Path, progress: Callable[[int, int], None] | None = None) -> list[Finding]:
    """Check the whole dataset; an empty list means that nothing at all was found. Sorted: damage first, then by file.

    `progress(done, total)` is called after each unit. Raises InputError when there is no dataset, or dataset.json is
    damaged. Files are hashed on a thread for each core.
    """
    dataset = Dataset.open(root)
    commits, findings = _read_commits(dataset.root)
    known = read_cache(dataset.root / layout.COMMIT_CACHE)
    winners = {commit.unit: commit for commit in commits}  # sorted by generation: the last one stays
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        checks = []
        for check in pool.map(lambda commit: check_unit(dataset.root, commit), winners.values()):
            checks.append(check)
            if progress is not None:
                progress(len(checks), len(winners))
    for check in checks:
        findings.extend(check.findings)
    findings.extend(_duplicates(checks))
    findings.extend(_overlaps(winners.values()))
    findings.extend(_unnamed_files(dataset.root, commits))
    if index_state(dataset.root).stale:
        findings.append(
            Finding.of(Kind.stale_index, layout.INDEX, "commits changed since; run `commforge dataset index`")
        )
    if any(
        (cached := known.get(commit.unit)) is not None
        and cached.generation == commit.generation
        and cached != commit.summary
        for commit in commits
    ):
        detail = "says something else than the commits; remove it"
        findings.append(Finding.of(Kind.stale_index, layout.COMMIT_CACHE, detail))
    return sorted(
        findings, key=lambda finding: (finding.severity != "error", finding.file, finding.kind, finding.detail)
    )


def _read_commits(root: Path) -> tuple[list[Commit], list[Finding]]:
    """Every readable commit, sorted by unit and generation, and a finding for each that is not."""
    log, commits, findings = CommitLog(root), [], []
    names = log.names()
    committed = set(names)
    for unit, generation in names:
        name = layout.commit_name(unit, generation)
        try:
            commits.append(log.read(unit, generation))
        except CommitUnreadable as error:
            findings.append(Finding.of(Kind.unreadable_commit, name, str(error)))
        if generation > FIRST_GENERATION and (unit, generation - 1) not in committed:
            findings.append(Finding.of(Kind.missing_generation, name, f"generation {generation - 1} has no commit"))
    return commits, findings


def _duplicates(checks: list[UnitCheck]) -> Iterator[Finding]:
    """Image ids that more than one committed row has; counted by Arrow, since there may be millions."""
    if not checks:
        return
    ids = pa.chunked_array([check.image_ids for check in checks], pa.string())
    counted = pc.value_counts(ids)
    twice = counted.filter(pc.greater(counted.field("counts"), 1)).field("values")
    if len(twice) == 0:
        return
    homes: dict[str, list[str]] = defaultdict(list)
    for check in checks:
        for image_id in check.image_ids.filter(pc.is_in(check.image_ids, value_set=twice)).to_pylist():
            homes[image_id].append(check.commit.rows.name)
    for image_id, files in sorted(homes.items()):
        detail = f"image {image_id} has {len(files)} rows, in {', '.join(sorted(set(files)))}"
        yield Finding.of(Kind.duplicate_image_id, min(files), detail)


def _overlaps(commits: Iterable[Commit]) -> Iterator[Finding]:
    by_generator: dict[tuple[str, str | None, int], list[Commit]] = defaultdict(list)
    for commit in commits:
        if commit.count:
            by_generator[commit.generator, commit.revision, commit.label].append(commit)
    for units in by_generator.values():
        units.sort(key=lambda commit: (commit.first, commit.unit))
        furthest = units[0]
        for commit in units[1:]:
            if commit.first < furthest.first + furthest.count:
                detail = (
                    f"draws {commit.first} to {commit.first + commit.count - 1} of {commit.generator} overlap "
                    f"{furthest.first} to {furthest.first + furthest.count - 1} of {furthest.file}"
                )
                yield Finding.of(Kind.overlapping_draws, commit.file, detail)
            furthest = max(furthest, commit, key=lambda unit: unit.first + unit.count)


def _unnamed_files(root: Path, commits: list[Commit]) -> Iterator[Finding]:
    named = {record.name for commit in commits for record in commit.files}
    for name in storage.files_below(root):
        basename = name.rpartition("/")[2]
        if name in named:
            continue
        if storage.is_temporary(basename):
            yield Finding.of(Kind.uncommitted_file, name, "a temporary: being written, or left by a process that died")
        elif name.startswith((f"{layout.IMAGES}/", f"{layout.ROWS}/")):
            if layout.is_shard(basename):
                yield Finding.of(Kind.uncommitted_file, name, "no commit names it: in flight, or left by a dead worker")
            else:
                yield Finding.of(Kind.foreign_file, name, "not written by this software")
