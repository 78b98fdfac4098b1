"""Removing what killed workers and drivers left behind: shards that no commit names, and temporaries."""

from __future__ import annotations

import time
from pathlib import Path

from shards import layout, storage
from shards.commit_log import CommitLog
from shards.dataset import Dataset
from shards.run_lock import RunLock

GRACE_SECONDS = 3600.0
"""Younger files are left alone: a worker that outlived its driver may still be publishing."""


def collect(root: Path, now: bool = False, dry_run: bool = False) -> list[str]:
    """Remove litter; returns the removed names (relative to DATASET), sorted. With `dry_run`, what would be removed.

    Only files that this software writes are removed: shards that no commit of any generation names, and temporaries.
    `now` also takes files under an hour old. Holds the run lock meanwhile, so that no driver can commit what is being
    removed. Raises RunLockHeld when a driver is at work, InputError when this is no dataset or a commit is unreadable
    (what it names is then unknown; nothing is removed).
    """
    dataset = Dataset.open(root)
    with RunLock(dataset.root):
        named = {record.name for commit in CommitLog(dataset.root).load() for record in commit.files}
        newest = time.time() - GRACE_SECONDS
        removed = []
        for name in storage.files_below(dataset.root):
            if name in named or not _is_ours(name):
                continue
            path = dataset.root / name
            try:
                if not now and storage.last_change(path) > newest:
                    continue
                if not dry_run:
                    path.unlink()
            except FileNotFoundError:  # an orphaned worker renamed its temporary just now
                continue
            removed.append(name)
    return sorted(removed)


def _is_ours(name: str) -> bool:
    folder, _, basename = name.rpartition("/")
    if storage.is_temporary(basename):
        return True
    return folder.split("/")[0] in (layout.IMAGES, layout.ROWS) and layout.is_shard(basename)
