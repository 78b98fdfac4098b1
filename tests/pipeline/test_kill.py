"""SIGKILL at random moments: the same command again, and the dataset is the one of an undisturbed run, to the byte.

Of every kind of toy generator, and few kills; `make chaos` kills many times more, in many more ways.
"""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from toy_runs import commforge, committed_files, copy_run, start_commforge, stored_files
from warm_start import WarmProcess

from shards.dataset import Dataset
from shards.verify import verify

SEED = int(os.environ.get("COMMFORGE_KILL_SEED", random.SystemRandom().randrange(10**6)))
INLINE_KILLS = 6
DRIVER_KILLS = 2
WORKER_KILLS = 4


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


def _kill_session(process: WarmProcess) -> None:
    process.kill()
    process.wait()


def _killed_often_enough(prepared: Path, folder: Path, longest: float, attempt: Callable[[Path, float], bool]) -> Path:
    """Return a run for which `attempt(run, longest wait)` says that every kill fell into it.

    A fast machine may finish before the last kill; then a fresh run is killed at shorter intervals.
    """
    for number in range(4):
        run = copy_run(prepared, folder / f"run-{number}" / "run")
        if attempt(run, longest / 2**number):
            return run
    pytest.fail("each run ended before it had been killed often enough")


def test_driver_killed_under_inline(prepared: Path, undisturbed: Path, tmp_path: Path, moments: random.Random) -> None:
    def attempt(run: Path, longest: float) -> bool:
        for _ in range(INLINE_KILLS):
            process = start_commforge(["sample", run / "run.yaml"], tmp_path / "log")
            _wait_for_progress(process, run, moments.uniform(0.0, longest))
            if process.poll() is not None:
                return False
            _kill_session(process)
        return True

    run = _killed_often_enough(prepared, tmp_path, 4.0, attempt)
    final = commforge("sample", run / "run.yaml")
    assert final.returncode == 0, final.stderr
    _assert_as_undisturbed(run, undisturbed)


def _wait_for_progress(process: WarmProcess, run: Path, then: float) -> None:
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
    prepared: Path, undisturbed: Path, tmp_path: Path, moments: random.Random, ray_cluster: str
) -> None:
    def attempt(run: Path, longest: float) -> bool:
        for _ in range(DRIVER_KILLS):
            process = start_commforge(_ray_command(run, ray_cluster), tmp_path / "log")
            _wait_for_progress(process, run, moments.uniform(0.5, longest))
            if process.poll() is not None:
                return False
            _kill_session(process)
        return True

    run = _killed_often_enough(prepared, tmp_path, 14.0, attempt)
    final = commforge(*_ray_command(run, ray_cluster))
    assert final.returncode == 0, final.stderr
    _assert_as_undisturbed(run, undisturbed)


def test_workers_killed_within_one_ray_run(
    prepared: Path, undisturbed: Path, tmp_path: Path, moments: random.Random, ray_cluster: str
) -> None:
    log = tmp_path / "log"

    def attempt(run: Path, longest: float) -> bool:
        process = start_commforge(_ray_command(run, ray_cluster), log)
        killed: set[int] = set()
        while len(killed) < WORKER_KILLS and process.poll() is None:
            victims = [worker for worker in _workers_of(run) if worker.pid not in killed]
            if not victims:
                time.sleep(0.1)
                continue
            victim = moments.choice(victims)
            time.sleep(moments.uniform(0.0, longest))  # some deaths come while it loads, others while it samples
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim.pid, signal.SIGKILL)
                killed.add(victim.pid)
        assert process.wait(300) == 0, log.read_text()
        return len(killed) == WORKER_KILLS

    run = _killed_often_enough(prepared, tmp_path, 12.0, attempt)
    assert (run / "events.jsonl").read_text().count('"retry"') >= 1
    _assert_as_undisturbed(run, undisturbed)


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
