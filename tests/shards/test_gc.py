import os
import time
from pathlib import Path
from typing import Any

import pytest

from shards import gc as garbage
from shards.commit_log import CommitUnreadable
from shards.gc import collect
from shards.run_lock import RunLock, RunLockHeld
from shards.statuses import Reason
from shards.verify import verify

TEMPORARY = ".u.0.json.0123456789abcdef.tmp"


@pytest.fixture
def littered(workshop: Any) -> Any:
    """One unit with a superseded generation, and every kind of litter."""
    workshop.commit("u", reasons=[Reason.device_oom])
    workshop.commit("u", reasons=[Reason.none], generation=1)
    _, receipt = workshop.publish("litter", first=10)
    workshop.kept = [name for name in workshop.files() if name not in (receipt.images.name, receipt.rows.name)]
    for folder in ("", "commits", "images/gen", "rows/gen"):
        (workshop.root / folder / TEMPORARY).write_text("half")
    for name in ("README.md", "images/gen/notes.txt", "commits/notes.txt"):
        (workshop.root / name).write_text("the user's own")
        workshop.kept.append(name)
    temporaries = [TEMPORARY, f"commits/{TEMPORARY}", f"images/gen/{TEMPORARY}", f"rows/gen/{TEMPORARY}"]
    workshop.litter = sorted([*temporaries, receipt.images.name, receipt.rows.name])
    return workshop


def test_removes_exactly_the_litter(littered: Any) -> None:
    assert collect(littered.root, now=True) == littered.litter
    assert littered.files() == sorted([*littered.kept, ".run.lock"])
    assert [finding.kind for finding in verify(littered.root)] == ["foreign_file"]
    assert collect(littered.root, now=True) == []


def test_dry_run_removes_nothing(littered: Any) -> None:
    before = littered.files()
    assert collect(littered.root, now=True, dry_run=True) == littered.litter
    assert littered.files() == sorted([*before, ".run.lock"])


def test_young_files_stay_unless_now(littered: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert collect(littered.root) == []
    old = time.time() - 7200
    for name in littered.litter:
        os.utime(littered.root / name, (old, old))
    assert collect(littered.root) == [], "an old file that was renamed just now is young"
    monkeypatch.setattr(time, "time", lambda: old + 2 * 7200)
    assert collect(littered.root) == littered.litter
    assert garbage.GRACE_SECONDS == 3600


def test_needs_the_run_lock(littered: Any) -> None:
    before = littered.files()
    with RunLock(littered.root), pytest.raises(RunLockHeld):
        collect(littered.root, now=True)
    assert littered.files() == sorted([*before, ".run.lock"])


def test_an_unreadable_commit_stops_it(littered: Any) -> None:
    commit = next(Path(littered.root / "commits").glob("*.1.json"))
    commit.write_text("{")
    with pytest.raises(CommitUnreadable, match=str(commit)):
        collect(littered.root, now=True)
    assert all((littered.root / name).exists() for name in littered.litter)
