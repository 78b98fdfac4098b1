"""The commit protocol: one winner per name, shards first, generations in order, damage named."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shards.commit_log import CommitExists, CommitLog, CommitUnreadable, RetryRefused, ShardMissing
from shards.commits import Commit, may_retry
from shards.statuses import Reason, Status

RACER = """
import sys
from pathlib import Path
from shards.commits import Commit
from shards.commit_log import CommitExists, CommitLog
log, commit = CommitLog(Path(sys.argv[1])), Commit.model_validate_json(Path(sys.argv[2]).read_bytes())
print("ready", flush=True)
for line in sys.stdin:
    try:
        log.commit(commit.model_copy(update={"unit": f"unit{int(line)}", "host": sys.argv[3]}))
        print("won", flush=True)
    except CommitExists:
        print("lost", flush=True)
"""


def test_two_processes_racing_on_300_names_have_one_winner_each(workshop: Any, tmp_path: Path) -> None:
    template = tmp_path / "template.json"
    template.write_text(workshop.commit("u").model_dump_json())
    command = [sys.executable, "-c", RACER, str(workshop.root), str(template)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    racers = {who: subprocess.Popen([*command, who], **pipes) for who in ("left", "right")}
    assert [racer.stdout.readline() for racer in racers.values()] == ["ready\n"] * 2
    winners = []
    for number in range(300):
        for racer in racers.values():  # both start on the same name at the same time
            racer.stdin.write(f"{number}\n")
            racer.stdin.flush()
        won = [who for who, racer in racers.items() if racer.stdout.readline() == "won\n"]
        assert len(won) == 1
        winners += won
    for racer in racers.values():
        racer.communicate()
        assert racer.returncode == 0
    assert set(winners) == {"left", "right"}, "no race took place"
    log = CommitLog(workshop.root)
    assert [log.read(f"unit{number}", 0).host for number in range(300)] == winners
    assert len(list((workshop.root / "commits").iterdir())) == 301  # and no temporary is left


def test_commit_file_is_the_commit(workshop: Any) -> None:
    commit = workshop.commit("u", reasons=[Reason.none, Reason.worker_signal])
    path = workshop.root / "commits" / f"{workshop.unit('u')}.0.json"
    stored = json.loads(path.read_text())
    assert Commit.model_validate(stored) == commit
    assert stored["counts"] == {"ok": 1, "crashed": 1} and stored["reasons"] == {"none": 1, "worker_signal": 1}
    assert stored["retryable"] is True and stored["images"]["name"] == commit.images.name
    assert CommitLog(workshop.root).load() == [commit]
    assert commit.draws == 2


def test_second_commit_is_refused_and_changes_nothing(workshop: Any) -> None:
    commit = workshop.commit("u")
    path = workshop.root / commit.file
    before = path.read_bytes()
    with pytest.raises(CommitExists, match=f"{path}: "):
        CommitLog(workshop.root).commit(commit.model_copy(update={"host": "other"}))
    assert path.read_bytes() == before
    assert len(workshop.files()) == 4


@pytest.mark.parametrize("which", ["images", "rows"])
def test_commit_needs_its_shards(workshop: Any, which: str) -> None:
    info, receipt = workshop.publish("u")
    path = workshop.root / getattr(receipt, which).name
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(ShardMissing, match=f"{path}: {len(content) - 1} bytes"):
        workshop.record(info, receipt)
    path.unlink()
    with pytest.raises(ShardMissing, match=f"{path}: not there"):
        workshop.record(info, receipt)
    assert list((workshop.root / "commits").iterdir()) == []


def test_receipt_of_another_unit_is_refused(workshop: Any) -> None:
    info, _ = workshop.publish("u")
    _, other = workshop.publish("v")
    with pytest.raises(ValueError, match="its receipt says"):
        workshop.record(info, other)


def test_highest_generation_wins_and_replaces_all_rows(workshop: Any) -> None:
    workshop.commit("u", reasons=[Reason.none, Reason.none, Reason.device_oom])
    workshop.commit("v", first=3)
    again = workshop.commit("u", reasons=[Reason.none, Reason.nsfw, Reason.none], generation=1)
    log = CommitLog(workshop.root)
    assert log.winners()[workshop.unit("u")] == again
    assert [(commit.unit, commit.generation) for commit in log.load()] == sorted(
        [(workshop.unit("u"), 0), (workshop.unit("u"), 1), (workshop.unit("v"), 0)]
    )
    rows = workshop.dataset.rows(columns=["unit", "generation", "status"]).to_pylist()
    assert [r["status"] for r in rows if r["unit"] == workshop.unit("u")] == ["ok", "flagged", "ok"]
    assert {r["generation"] for r in rows if r["unit"] == workshop.unit("u")} == {1}
    assert len(rows) == 6


def test_ten_generations_are_ordered_as_numbers(workshop: Any) -> None:
    for generation in range(11):
        workshop.commit("u", reasons=[Reason.worker_lost], generation=generation)
    assert CommitLog(workshop.root).winners()[workshop.unit("u")].generation == 10


@pytest.mark.parametrize("reasons", [[Reason.none], [Reason.corrupt_weights], [Reason.nsfw, Reason.none]])
def test_next_generation_needs_a_retryable_reason(workshop: Any, reasons: list[Reason]) -> None:
    workshop.commit("u", reasons=reasons)
    with pytest.raises(RetryRefused, match="no draw of generation 0"):
        workshop.commit("u", generation=1)


def test_a_generation_cannot_be_skipped(workshop: Any) -> None:
    workshop.commit("u", reasons=[Reason.device_oom])
    with pytest.raises(RetryRefused, match="generation 2 needs generation 1"):
        workshop.commit("u", generation=2)


@pytest.mark.parametrize(
    ("reasons", "statuses", "expected"),
    [
        ([Reason.none, Reason.device_oom], [Status.oom], True),
        ([Reason.none, Reason.device_oom], [Status.timeout], False),
        ([Reason.none, Reason.device_oom], [], False),
        ([Reason.none], [Status.ok], False),
        ([Reason.corrupt_weights], [Status.load_failed], False),
        ([Reason.corrupt_weights, Reason.download_failed], [Status.load_failed], True),
        ([Reason.gated_repo], [Status.gated], True),
        ([Reason.repo_not_found], list(Status), False),
    ],
)
def test_may_retry(workshop: Any, reasons: list[Reason], statuses: list[Status], expected: bool) -> None:
    assert may_retry(workshop.commit("u", reasons=reasons), statuses) is expected


@pytest.mark.parametrize("damage", ["cut", "empty", "garbled", "binary", "renamed", "outside", "status"])
def test_a_damaged_commit_is_named(workshop: Any, damage: str) -> None:
    commit = workshop.commit("u")
    path = workshop.root / commit.file
    good = path.read_bytes()
    damaged = {
        "cut": good[: len(good) // 2],
        "empty": b"",
        "garbled": good.replace(b'"first": 0', b'"first": "zero"'),
        "binary": b"\xff\xfe" + good,
        "renamed": good.replace(commit.unit.encode(), b"f" * 32, 1),
        "outside": good.replace(b'"images/', b'"../../images/', 1),
        "status": good.replace(b'"ok"', b'"fine"'),
    }[damage]
    assert damaged != good
    path.write_bytes(damaged)
    with pytest.raises(CommitUnreadable, match=str(path)):
        CommitLog(workshop.root).load()


def test_loading_again_opens_only_new_files(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        workshop.commit(f"u{number}", first=3 * number)
    opened: list[str] = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: opened.append(self.name) or read_bytes(self))
    log = workshop.dataset.log
    assert len(log.winners()) == 5 and len(opened) == 5
    assert len(log.load()) == 5 and len(opened) == 5
    workshop.dataset.rows()
    assert len(opened) == 5
    workshop.commit("u5", first=15)
    opened.clear()
    assert len(log.winners()) == 6 and opened == [f"{workshop.unit('u5')}.0.json"]


def test_other_files_in_the_folder_are_not_commits(workshop: Any) -> None:
    commit = workshop.commit("u")
    for name in (".x.0.json.0123456789abcdef.tmp", "README", "u.01.json", "u.json", "u.0.json~"):
        (workshop.root / "commits" / name).write_text("?")
    assert CommitLog(workshop.root).load() == [commit]
