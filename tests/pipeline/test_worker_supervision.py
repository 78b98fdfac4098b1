"""What a supervisor does with its child: spares, replacement, limits. Real processes and signals; only the worker in
them is another one, which starts at once and does what a unit's prompt says."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from manifests.draws import Draw
from manifests.generator import GeneratorSpec
from manifests.unit import UnitSpec
from pipeline import child_process
from pipeline.tasks import Bug, Died, Done, Failed, Outcome, Task
from pipeline.worker_config import WorkerConfig
from pipeline.worker_process import STANDBY_NICENESS, WorkerProcess
from shards.statuses import Reason

IMPORTING = 1.0
"""Seconds that a worker imports, in the test where one shall have done so before it is needed."""

WORKER = """
import importlib.abc, importlib.util, os, sys, threading, time

class Worker:
    def __init__(self, config):
        self.held = []

    def run(self, task, on_fetched):
        from pipeline.tasks import Done

        for command in task.work.draws[0].prompt.split(";"):
            verb, _, number = command.strip().partition(" ")
            if verb in ("fetch", "work"):
                time.sleep(float(number))
            elif verb == "fetched":
                on_fetched()
            elif verb == "hold":
                self.held.append(bytearray(int(float(number) * 2**20)))
            elif verb == "say":
                print(number, flush=True)
            elif verb == "raise":
                raise StopIteration(number)
            elif verb == "lose":
                from pipeline.tasks import Failed
                from shards.statuses import Reason

                return Failed(task, Reason.device_lost, "an illegal access")
            elif verb == "die":
                os.kill(os.getpid(), int(number))
            elif verb == "half-answer":
                os.write(int(sys.argv[1]), (1000).to_bytes(8, "big") + b"the first bytes")
        return Done(task, 0.0, f"{os.getpid()} {Finder.niceness} {os.getpriority(os.PRIO_PROCESS, 0)}")

class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        return importlib.util.spec_from_loader(name, self) if name in ("pipeline.worker", "pandas") else None

    def exec_module(self, module):
        if module.__name__ == "pandas":
            return
        time.sleep(float(os.environ.get("IMPORTING", "0")))
        Finder.niceness = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        module.Worker = Worker

sys.meta_path.insert(0, Finder())
"""


def _config(folder: Path, **changes: object) -> WorkerConfig:
    settings = {"download_timeout": 60.0, "unit_timeout": 60.0, "cpu_threads": 1, "device": "cpu", **changes}
    return WorkerConfig(
        dataset=folder / "dataset", spool=folder / "spool", endpoint="http://x", token=None, cache=None, **settings
    )


@pytest.fixture
def supervise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    (tmp_path / "light").mkdir()
    (tmp_path / "light" / "sitecustomize.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "light"))
    made: list[WorkerProcess] = []

    def supervise(**changes: object) -> WorkerProcess:
        made.append(WorkerProcess(_config(tmp_path, **changes), f"worker-{len(made)}"))
        return made[-1]

    yield supervise
    for worker in made:
        worker.stop()


def _task(commands: str = "fetched", generator: str = "a", images: int = 1) -> Task:
    spec = GeneratorSpec(name=generator, kind="unconditional", repo_id=f"owner/{generator}", family="f")
    draws = [
        Draw(index=index, seed=1, prompt_id="p", prompt=commands, prompt_source="unconditional")
        for index in range(images)
    ]
    return Task(UnitSpec(generator=spec, first=0, count=images, draws=draws, batch_size=1, cpu_threads=1))


def _pid(outcome: Outcome) -> int:
    assert isinstance(outcome, Done), outcome
    return int(outcome.host.split()[0])


def _later(seconds: float, act: "signal.Signals", worker: WorkerProcess) -> threading.Thread:
    def send() -> None:
        time.sleep(seconds)
        assert worker.pid is not None
        os.kill(worker.pid, act)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@contextmanager
def _ended_after(seconds: float, process: int) -> Iterator[None]:
    """Kill a process that hangs for good, so that a supervisor that waits for it for ever fails its test."""
    timer = threading.Timer(seconds, os.kill, (process, signal.SIGKILL))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_process_with_a_lost_device_or_an_unforeseen_error_gets_no_other_task(supervise) -> None:
    worker = supervise()
    used = [_pid(worker.run(_task()))]
    lost = worker.run(_task("fetched; lose"))
    assert isinstance(lost, Failed) and lost.reason is Reason.device_lost
    used.append(_pid(worker.run(_task())))
    bug = worker.run(_task("fetched; raise nobody foresaw this"))
    assert isinstance(bug, Bug) and "StopIteration: nobody foresaw this" in bug.traceback
    used.append(_pid(worker.run(_task())))
    assert len(set(used)) == 3


def test_a_spare_takes_over_at_once_and_another_is_started(supervise, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPORTING", str(IMPORTING))
    worker = supervise(spares=1)
    worker.start()
    assert worker.spare_pids == [], "it would take the processor from the start of the first"
    first = _pid(worker.run(_task()))
    (spare,) = worker.spare_pids
    for number in (signal.SIGKILL, signal.SIGSEGV):
        _until(lambda: worker.ready_spares == 1)
        death = worker.run(_task(f"fetched; die {int(number)}"))
        assert isinstance(death, Died)
        assert death.signal == number
        assert not _alive(first)
        outcome = worker.run(_task())
        assert _pid(outcome) == spare, "it had imported everything before the death"
        imported_at, runs_at = map(int, outcome.host.split()[1:])
        assert (imported_at, runs_at) == (STANDBY_NICENESS if sys.platform == "linux" else 0, 0)
        first, (spare,) = spare, worker.spare_pids


def test_a_spare_that_died_unnoticed_is_passed_over(supervise) -> None:
    worker = supervise(spares=1)
    first = _pid(worker.run(_task()))
    (spare,) = worker.spare_pids
    os.kill(spare, signal.SIGKILL)
    worker.run(_task("fetched; die 9"))
    assert _pid(worker.run(_task())) not in (first, spare)


def test_without_spares_there_are_none(supervise) -> None:
    worker = supervise()
    worker.run(_task())
    assert worker.spare_pids == []


@pytest.mark.parametrize("act", [signal.SIGSTOP, signal.SIGCONT], ids=["stopped", "running"])
def test_a_hang_is_ended_stopped_or_not_and_the_next_task_gets_a_spare(supervise, act: signal.Signals) -> None:
    worker = supervise(unit_timeout=1.0, spares=1)
    first = _pid(worker.run(_task()))
    stopper = _later(0.3, act, worker)
    outcome = worker.run(_task("fetched; say before the hang; work 600"))
    stopper.join()
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.unit_timeout
    assert "no result within 1 s" in outcome.detail
    assert not _alive(first)
    (spare,) = worker.spare_pids
    assert _pid(worker.run(_task())) == spare


def test_a_units_limit_begins_when_its_files_are_here(supervise) -> None:
    worker = supervise(unit_timeout=1.5, download_timeout=20.0)
    first = _pid(worker.run(_task("fetch 2.0; fetched")))
    assert isinstance(worker.run(_task("fetched; work 2.0")), Failed)
    assert not _alive(first)


def test_a_download_that_hangs_is_ended_too(supervise) -> None:
    worker = supervise(unit_timeout=600.0, download_timeout=0.5)
    worker.run(_task())
    started = time.monotonic()
    outcome = worker.run(_task("fetch 600"))
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.download_timeout
    assert 1.0 < time.monotonic() - started < 60.0
    assert isinstance(worker.run(_task()), Done)


def test_a_child_that_was_stopped_before_a_large_task_is_ended(supervise) -> None:
    """The task is larger than what the socket takes without a reader."""
    worker = supervise(download_timeout=0.4)
    first = _pid(worker.run(_task()))
    large = _task(images=4096)
    assert isinstance(worker.run(large), Done)
    os.kill(first, signal.SIGSTOP)
    started = time.monotonic()
    with _ended_after(30, first):
        outcome = worker.run(large)
    assert isinstance(outcome, Failed), "it blocked"
    assert (outcome.reason, outcome.detail) == (Reason.download_timeout, "no files within 1.2 s")
    assert 1.2 <= time.monotonic() - started < 20
    assert not _alive(first)
    assert isinstance(worker.run(large), Done)


@pytest.mark.parametrize(
    ("commands", "reason"),
    [("half-answer; work 600", Reason.download_timeout), ("fetched; half-answer; work 600", Reason.unit_timeout)],
    ids=["before the files", "after them"],
)
def test_a_child_that_hangs_in_the_middle_of_its_answer_is_ended(supervise, commands: str, reason: Reason) -> None:
    worker = supervise(download_timeout=0.4, unit_timeout=1.2)
    first = _pid(worker.run(_task()))
    with _ended_after(30, first):
        outcome = worker.run(_task(commands))
    assert isinstance(outcome, Failed), "it blocked"
    assert outcome.reason is reason and "within 1.2 s" in outcome.detail
    assert not _alive(first)


def test_a_child_that_dies_in_the_middle_of_its_answer_is_dead(supervise) -> None:
    outcome = supervise().run(_task("fetched; half-answer; die 11"))
    assert isinstance(outcome, Died)
    assert outcome.signal == signal.SIGSEGV


def test_a_start_that_hangs_is_a_death(supervise, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process, "START_SECONDS", 1.0)
    monkeypatch.setattr(child_process, "DEATH_SECONDS", 0.1)
    monkeypatch.setenv("IMPORTING", "60")
    assert supervise().run(_task()) == Died(_task(), 0, "")


def test_a_worker_that_did_enough_is_replaced_between_generators(supervise) -> None:
    worker = supervise(tasks_per_worker=2)
    groups = ["a", "a", "a", "b", "b", "b", "c"]
    pids = [_pid(worker.run(_task(generator=group))) for group in groups]
    assert [pids.index(pid) for pid in pids] == [0, 0, 0, 3, 3, 3, 6]


def test_a_worker_that_holds_too_much_memory_is_replaced_in_the_middle_of_a_generator(supervise) -> None:
    worker = supervise(worker_memory=400 * 2**20)
    pids = [_pid(worker.run(_task(f"fetched; hold {mebibytes}"))) for mebibytes in (1, 1, 500, 1, 1)]
    assert [pids.index(pid) for pid in pids] == [0, 0, 0, 3, 3]


def test_a_fresh_worker_has_run_nothing(supervise) -> None:
    worker = supervise()
    worker.start()
    first = worker.pid
    assert _pid(worker.run(_task(), fresh=True)) == first
    assert _pid(worker.run(_task(), fresh=True)) != first


def test_logs_of_children_that_are_gone_are_removed_and_tails_are_of_the_task(supervise, tmp_path: Path) -> None:
    worker = supervise(spares=1)
    worker.run(_task("fetched; say of the first task"))
    outcome = worker.run(_task("fetched; say of the second; die 9"))
    assert isinstance(outcome, Died)
    assert "of the second" in outcome.log_tail
    assert "of the first" not in outcome.log_tail
    worker.run(_task())
    assert len(list((tmp_path / "spool").glob("*.log"))) == 2, "of the child and of its spare"
    worker.stop()
    assert list((tmp_path / "spool").glob("*.log")) == []
