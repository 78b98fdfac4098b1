"""The cache of commit summaries never says anything that the commit files do not say."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from shards import commit_log, layout, storage
from shards.commit_cache import CommitSummary, read_cache, write_cache
from shards.commit_log import CommitLog
from shards.commits import Commit, UnitInfo
from shards.dataset import Dataset
from shards.findings import Kind
from shards.identifiers import content_hash, sha256_bytes
from shards.receipt import FileRecord
from shards.statuses import Reason
from shards.verify import verify
from shards.writer import Receipt

CRASH = """
import os, sys
from pathlib import Path
from shards import commit_log, commit_cache, storage
from shards.commits import Commit
from shards.commit_log import CommitLog
commit_log.CACHE_AT_LEAST = 1
function, root = sys.argv[1], Path(sys.argv[2])
log = CommitLog(root)
log.summaries()
def die(*arguments):
    os.kill(os.getpid(), 9)
setattr(storage, function, die)
if function == "create":  # the cache names this commit, whose file is gone: it is dropped, and then we die
    log.commit(Commit.model_validate_json(sys.stdin.read()))
else:
    log.compact()
"""


def _commit(root: Path, name: str, generation: int, reasons: dict[Reason, int], **changes: Any) -> Commit:
    """A commit of a unit whose rows file is really there; its content does not matter here."""
    unit, data = content_hash(name), f"{name} {generation} {reasons}".encode()
    record = FileRecord(
        name=layout.shard_name(layout.ROWS, "gen", unit, sha256_bytes(data)), sha256=sha256_bytes(data), bytes=len(data)
    )
    (root / record.name).parent.mkdir(parents=True, exist_ok=True)
    (root / record.name).write_bytes(data)
    counts: dict[str, int] = {}
    for reason, draws in reasons.items():
        counts[str(reason.status)] = counts.get(str(reason.status), 0) + draws
    receipt = Receipt(
        unit=unit, generator="gen", generation=generation, images=None, rows=record, counts=counts, reasons=reasons
    )
    info = UnitInfo(
        unit=unit, generator="gen", revision="r", label=1, first=0, count=sum(counts.values()), generation=generation
    )
    return Commit.of(info.model_copy(update=changes), receipt, environment="cpu", versions={}, host="h", seconds=1.5)


def _truth(root: Path) -> dict[str, CommitSummary]:
    """What the commit files say, each opened, no cache looked at."""
    return {unit: commit.summary for unit, commit in CommitLog(root).winners().items()}


class Campaign(RuleBasedStateMachine):
    """Commits, retries, kills, files removed by hand and damaged caches, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path()

    @initialize()
    def start(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        Dataset.create(self.root / "d", "test", {})
        self.root = self.root / "d"
        self.log = CommitLog(self.root)

    @rule(
        name=st.sampled_from("abcdef"),
        draws=st.integers(1, 3),
        reason=st.sampled_from([Reason.none, Reason.device_oom, Reason.worker_lost]),
    )
    def commit(self, name: str, draws: int, reason: Reason) -> None:
        last = CommitLog(self.root).winners().get(content_hash(name))
        if last is None or last.retryable:
            generation = 0 if last is None else last.generation + 1
            self.log.commit(_commit(self.root, name, generation, {reason: draws}))

    @rule(name=st.sampled_from("abcdef"))
    def remove_the_last_generation_by_hand(self, name: str) -> None:
        generation = CommitLog(self.root).generations().get(content_hash(name))
        if generation is not None:
            (self.root / layout.commit_name(content_hash(name), generation)).unlink()

    @rule(finished=st.booleans())
    def compact(self, finished: bool) -> None:
        self.log.summaries()
        self.log.compact(finished)

    @rule()
    def kill_and_start_again(self) -> None:
        self.log = CommitLog(self.root)

    @rule(place=st.integers(0, 10**6), value=st.integers(1, 255))
    def damage_the_cache(self, place: int, value: int) -> None:
        path = self.root / layout.COMMIT_CACHE
        if path.exists() and (data := bytearray(path.read_bytes())):
            data[place % len(data)] ^= value
            path.write_bytes(bytes(data))
            self.log = CommitLog(self.root)

    @rule(keep=st.integers(0, 100))
    def cut_the_cache_short(self, keep: int) -> None:
        path = self.root / layout.COMMIT_CACHE
        if path.exists():
            path.write_bytes(path.read_bytes()[:keep])
            self.log = CommitLog(self.root)

    @invariant()
    def summaries_are_the_files(self) -> None:
        if self.root != Path():
            truth = _truth(self.root)
            assert CommitLog(self.root).summaries() == truth, "a reader who starts now"
            assert self.log.summaries() == truth, "the driver"
            assert list(self.log.summaries()) == sorted(truth)

    def teardown(self) -> None:
        if self.root != Path():
            shutil.rmtree(self.root.parent)


def test_any_campaign_reads_the_same_with_and_without_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_log, "CACHE_AT_LEAST", 2)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # nobody pulls the plug here
    run_state_machine_as_test(Campaign, settings=settings(max_examples=40, stateful_step_count=20, deadline=None))


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(commit_log, "CACHE_AT_LEAST", 2)
    Dataset.create(tmp_path / "d", "test", {})
    return tmp_path / "d"


def _opened(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commit files that summarising opens, in a process that starts now."""
    opened: list[str] = []
    read_bytes = Path.read_bytes
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda self: opened.append(self.name) or read_bytes(self))
        CommitLog(root).summaries()
    return [name for name in opened if name.endswith(".json")]


def test_a_start_opens_only_what_the_cache_lacks(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = CommitLog(dataset)
    for name in "abcd":
        log.commit(_commit(dataset, name, 0, {Reason.device_oom: 1}))
    assert len(_opened(dataset, monkeypatch)) == 4
    log.summaries()
    assert log.compact() is True
    assert log.compact() is False, "nothing is new"
    assert _opened(dataset, monkeypatch) == []
    log.commit(_commit(dataset, "a", 1, {Reason.none: 1}))
    assert _opened(dataset, monkeypatch) == [f"{content_hash('a')}.1.json"]
    assert log.compact() is False, "one is not worth a new file"
    assert log.compact(finished=True) is True
    assert _opened(dataset, monkeypatch) == []


def test_values_survive_the_file(tmp_path: Path) -> None:
    summaries = [
        CommitSummary("u1", 0, "gen", None, 0, 0, 3, None, None, False, 7, 0.5, {"ok": 3}, {"none": 3}),
        CommitSummary("u2", 12, "gen", "r", 1, 64, 64, "train", 900, True, 2**40, 1e-3, {"ok": 1, "oom": 63}, {}),
        CommitSummary("u3", 0, "näme", "r", 1, 0, 1, "test", 0, True, 0, 0.0, {"oom": 1, "ok": 1}, {"none": 1}),
    ]
    write_cache(tmp_path / "index" / "commits.cache", summaries)
    found = read_cache(tmp_path / "index" / "commits.cache")
    assert list(found.values()) == summaries
    assert [list(summary.counts) for summary in found.values()] == [["ok"], ["ok", "oom"], ["oom", "ok"]], "order too"


def test_a_commit_without_split_and_prompts_is_still_read(dataset: Path) -> None:
    commit = _commit(dataset, "a", 0, {Reason.none: 2}, split="train", prompts=9)
    CommitLog(dataset).commit(commit)
    path = dataset / commit.file
    stored = json.loads(path.read_text())
    assert (stored.pop("split"), stored.pop("prompts")) == ("train", 9)
    path.write_text(json.dumps(stored))
    old = CommitLog(dataset).summaries()[commit.unit]
    assert (old.split, old.prompts) == (None, None)
    assert replace(old, split="train", prompts=9) == commit.summary


@pytest.mark.parametrize("function", ["replace", "create"])
def test_a_driver_killed_between_the_steps_leaves_a_cache_that_is_true(dataset: Path, function: str) -> None:
    log = CommitLog(dataset)
    for name in "abc":
        log.commit(_commit(dataset, name, 0, {Reason.none: 1}))
    if function == "create":
        log.summaries()
        assert log.compact()
        (dataset / layout.commit_name(content_hash("a"), 0)).unlink()
    again = _commit(dataset, "a", 0, {Reason.corrupt_weights: 2})
    killed = subprocess.run(
        [sys.executable, "-c", CRASH, function, str(dataset)], input=again.model_dump_json().encode(), check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (dataset / layout.COMMIT_CACHE).exists()
    log = CommitLog(dataset)
    assert log.summaries() == _truth(dataset)
    if function == "create":
        assert content_hash("a") not in log.summaries()
        log.commit(again)
        assert CommitLog(dataset).summaries()[again.unit].counts == {"load_failed": 2}


def test_a_full_disk_costs_the_cache_and_nothing_else(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = CommitLog(dataset)
    for name in "abc":
        log.commit(_commit(dataset, name, 0, {Reason.none: 1}))
    log.summaries()

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(storage, "replace", full)
        assert log.compact() is False
    assert not (dataset / layout.COMMIT_CACHE).exists()
    assert log.compact() is True
    assert CommitLog(dataset).summaries() == _truth(dataset)


def test_verify_tells_a_cache_that_lies(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = workshop.commit("u")
    path = workshop.root / layout.COMMIT_CACHE
    write_cache(path, [commit.summary])
    assert verify(workshop.root) == []
    write_cache(path, [replace(commit.summary, counts={"ok": 99})])
    assert [(finding.kind, finding.file) for finding in verify(workshop.root)] == [
        (Kind.stale_index, layout.COMMIT_CACHE)
    ]
    write_cache(path, [replace(commit.summary, unit=content_hash("gone"))])
    assert verify(workshop.root) == [], "an entry whose commit is gone is never used"
