"""SIGKILL at random moments: the same command again, and the dataset is the one of an undisturbed run, to the byte."""

import contextlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from toy_runs import COMMFORGE, commforge, committed_files, start_commforge, stored_files

from shards.dataset import Dataset
from shards.verify import verify

SEED = int(os.environ.get("COMMFORGE_KILL_SEED", random.SystemRandom().randrange(10**6)))
INLINE_KILLS = 6
DRIVER_KILLS = 4
WORKER_KILLS = 10


@pytest.fixture
def moments() -> random.Random:
    print(f"COMMFORGE_KILL_SEED={SEED} repeats these moments as far as clocks allow")
    return random.Random(SEED)


def _assert_as_undisturbed(run: Path, undisturbed: Path) -> None:
    assert committed_files(run) == committed_files(undisturbed)
    rows = Dataset.open(run / "dataset").rows(label=1)
    assert rows.equals(Dataset.open(undisturbed / "dataset").rows(label=1))
    ids = rows["image_id"].to_pylist()
    assert len(ids) == len(set(ids))
    assert commforge("dataset", "gc", run / "dataset", "--now").returncode == 0
    assert stored_files(run) == stored_files(undisturbed)
    assert [finding for finding in verify(run / "dataset") if finding.severity == "error"] == []


def _kill_session(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def test_driver_killed_under_inline(fresh_run: Path, undisturbed: Path, tmp_path: Path, moments: random.Random) -> None:
    command = ["sample", fresh_run / "run.yaml"]
    kills = 0
    while kills < INLINE_KILLS:
        process = start_commforge(command, tmp_path / "log")
        # The kill shall fall into sampling, which begins with the lock taken and the libraries loaded.
        _wait_for_progress(process, fresh_run, moments.uniform(0.0, 4.0))
        if process.poll() is not None:
            break
        _kill_session(process)
        kills += 1
    assert kills == INLINE_KILLS, "the run ended before it was killed often enough"
    final = commforge(*command)
    assert final.returncode == 0, final.stderr
    _assert_as_undisturbed(fresh_run, undisturbed)


def _wait_for_progress(process: "subprocess.Popen[bytes]", run: Path, then: float) -> None:
    """Wait until the process has leased a unit, and `then` seconds more."""
    events = run / "events.jsonl"
    before = events.read_text().count('"leased"') if events.exists() else 0
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if events.exists() and events.read_text().count('"leased"') > before:
            break
        time.sleep(0.05)
    end = time.monotonic() + then
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)


def _ray_command(run: Path, address: str) -> list[str | Path]:
    settings = ("execute.executor=ray", "execute.workers=2", f"execute.ray_address={address}")
    settings = (*settings, f"execute.spool={_spool(run)}")
    return ["sample", run / "run.yaml", *(part for setting in settings for part in ("--set", setting))]


def test_driver_killed_under_ray(
    fresh_run: Path, undisturbed: Path, tmp_path: Path, moments: random.Random, ray_cluster: str
) -> None:
    command = _ray_command(fresh_run, ray_cluster)
    for _ in range(DRIVER_KILLS):
        process = start_commforge(command, tmp_path / "log")
        # Two workers load for some seconds after the first lease.
        _wait_for_progress(process, fresh_run, moments.uniform(2.0, 14.0))
        assert process.poll() is None, (tmp_path / "log").read_text()
        _kill_session(process)
    final = commforge(*command)
    assert final.returncode == 0, final.stderr
    _assert_as_undisturbed(fresh_run, undisturbed)


def test_workers_killed_within_one_ray_run(
    fresh_run: Path, undisturbed: Path, tmp_path: Path, moments: random.Random, ray_cluster: str
) -> None:
    log = tmp_path / "log"
    process = start_commforge(_ray_command(fresh_run, ray_cluster), log)
    killed: set[int] = set()
    while len(killed) < WORKER_KILLS:
        assert process.poll() is None, f"the run ended after {len(killed)} kills: {log.read_text()}"
        victims = [worker for worker in _workers_of(fresh_run) if worker.pid not in killed]
        if not victims:
            time.sleep(0.1)
            continue
        victim = moments.choice(victims)
        # Half of the deaths come while it loads, half while it samples.
        time.sleep(moments.uniform(0.0, 12.0))
        try:
            os.kill(victim.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        killed.add(victim.pid)
    assert process.wait(300) == 0, log.read_text()
    retries = (fresh_run / "events.jsonl").read_text().count('"retry"')
    assert retries >= 1
    _assert_as_undisturbed(fresh_run, undisturbed)


def _workers_of(run: Path) -> list[psutil.Process]:
    """The worker processes of this run and of no other: their standard error goes to a log in the run's own spool."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        if "pipeline.worker_process" not in (process.info["cmdline"] or []):
            continue
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if any(file.path.startswith(str(_spool(run))) for file in process.open_files()):
                found.append(process)
    return found


def _spool(run: Path) -> Path:
    return run.parent / "spool"


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(fresh_run: Path, undisturbed: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start_commforge(["sample", fresh_run / "run.yaml"], log)
    _wait_for_progress(process, fresh_run, 1.0)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 3
    assert "The same command again goes on from here" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert commforge("sample", fresh_run / "run.yaml").returncode == 0
    _assert_as_undisturbed(fresh_run, undisturbed)


assert COMMFORGE.exists(), "the tests run the installed command"
