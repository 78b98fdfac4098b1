"""SIGKILL at any moment: what was committed stays whole, and what is left over is litter that gc removes."""

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from shards.commit_log import CommitLog
from shards.dataset import Dataset
from shards.gc import collect
from shards.run_lock import RunLock
from shards.verify import Kind, errors, verify

UNITS = """
import os, signal, sys
from pathlib import Path
from shards.commits import Commit, UnitInfo
from shards.dataset import Dataset
from shards.identifiers import image_id
from shards.run_lock import RunLock
from shards.schema import empty_row
from shards.writer import UnitWriter

def make(root, spool, first):
    unit = f"unit{first:06d}"
    with UnitWriter(root, spool, unit, "gen") as writer:
        for index in range(first, first + 4):
            columns = {"label": 1, "status": "ok", "reason": "none", "unit": unit, "index": index, "generator": "gen"}
            columns |= {"kind": "k", "width": 1, "height": 1, "format": "PNG", "mode": "RGB"}
            image = b"\\x89PNG\\r\\n\\x1a\\n" + index.to_bytes(4, "big") * 5000
            writer.add(empty_row() | columns | {"image_id": image_id("gen", "r", "p", index)}, image)
        receipt = writer.publish()
    info = UnitInfo(unit=unit, generator="gen", label=1, first=first, count=4)
    return Commit.of(info, receipt, environment=None, versions={})
"""

ENDLESS = """
root, spool, first = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
log = Dataset.open(root).log
with RunLock(root):
    print("ready", flush=True)
    while True:
        log.commit(make(root, spool, first))
        print(first, flush=True)
        first += 4
"""

# Kills itself before the n-th call that changes the disk, for n = 1, 2, ... until a child gets through.
STEPWISE = """
base = Path(sys.argv[1])
for step in range(1, 200):
    root, spool = base / f"{step:03d}", base / "spool"
    Dataset.create(root, "x", {})
    child = os.fork()
    if child == 0:
        calls = 0
        def deadly(function):
            def call(*arguments, **options):
                global calls
                calls += 1
                if calls == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **options)
            return call
        for name in ("fsync", "link", "rename", "replace", "mkdir", "unlink"):
            setattr(os, name, deadly(getattr(os, name)))
        Dataset.open(root).log.commit(make(root, spool, 0))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(step, os.WTERMSIG(status), flush=True)
    if status == 0:
        break
"""


def _check(root: Path) -> None:
    """Only litter is left, gc removes exactly it, and the committed rows and images can be read."""
    findings = verify(root)
    assert errors(findings) == []
    assert {finding.kind for finding in findings} <= {Kind.uncommitted_file}
    with RunLock(root):  # the kernel freed it
        pass
    assert collect(root, now=True) == sorted(finding.file for finding in findings)
    assert verify(root) == []
    commits = CommitLog(root).load()
    named = {record.name for commit in commits for record in commit.files} | {commit.file for commit in commits}
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert files == named | {"dataset.json", ".run.lock"}
    dataset = Dataset.open(root)
    rows = dataset.rows().to_pylist()
    assert len(rows) == 4 * len(commits) == len(list(dataset.images(rows, verify=True)))


def test_killed_at_random_moments(workshop: Any) -> None:
    moments = random.Random(3)
    first = 0
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", UNITS + ENDLESS, str(workshop.root), str(workshop.spool), str(first)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for _ in range(moments.randrange(1, 6)):
            process.stdout.readline()
        time.sleep(moments.uniform(0, 0.05))
        process.kill()
        process.communicate()
        _check(workshop.root)
        first = 4 * len(CommitLog(workshop.root).load())
    assert first >= 6 * 4


def test_killed_before_every_change_of_the_disk(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNITS + STEPWISE, str(tmp_path)], capture_output=True, text=True, check=True
    )
    signals = [int(line.split()[1]) for line in done.stdout.splitlines()]
    assert set(signals[:-1]) == {9} and signals[-1] == 0 and len(signals) > 12
    committed = []
    for step in range(1, len(signals) + 1):
        root = tmp_path / f"{step:03d}"
        _check(root)
        committed.append(len(CommitLog(root).load()))
    assert committed == sorted(committed) and set(committed) == {0, 1}, "from some step on it is committed"


def test_a_killed_unit_is_made_again_to_equal_files(tmp_path: Path) -> None:
    """The uncommitted shards of a killed run are simply published over: nothing is doubled."""
    Dataset.create(tmp_path / "d", "x", {})
    code = UNITS + "root, spool = Path(sys.argv[1]), Path(sys.argv[2])\nmake(root, spool, 0)\n"
    command = [sys.executable, "-c", code, str(tmp_path / "d"), str(tmp_path / "s")]
    subprocess.run(command, check=True)
    before = {path: path.read_bytes() for path in (tmp_path / "d").rglob("*") if path.is_file()}
    subprocess.run(
        [*command[:2], code + "Dataset.open(root).log.commit(make(root, spool, 0))\n", *command[3:]], check=True
    )
    after = {path: path.read_bytes() for path in (tmp_path / "d").rglob("*") if path.is_file()}
    assert len(before) == 3 and before.items() <= after.items() and len(after) == 4
    assert verify(tmp_path / "d") == []
