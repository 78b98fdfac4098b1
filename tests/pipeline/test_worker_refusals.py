"""What a machine denies a supervisor benches that worker: no unit is blamed for it, and none gets another's answer."""

import errno
import os
import subprocess
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from manifests.draws import Draw
from manifests.errors import InputError
from manifests.generator import GeneratorSpec
from manifests.unit import UnitSpec
from pipeline import child_process, worker_process
from pipeline.tasks import Died, Done, Outcome, Task
from pipeline.worker_config import WorkerConfig
from pipeline.worker_process import WorkerProcess


def _tasks(count: int) -> list[Task]:
    spec = GeneratorSpec(name="a", kind="unconditional", repo_id="owner/a", family="f")
    draw = Draw(index=0, seed=1, prompt_id="p", prompt="", prompt_source="unconditional")
    units = [
        UnitSpec(generator=spec, first=first, count=1, draws=(draw,), batch_size=1, cpu_threads=1)
        for first in range(count)
    ]
    return [Task(unit) for unit in units]


class _Child:
    """Answers in the order of the tasks, as a socket does: what nobody has read yet comes first."""

    def __init__(self) -> None:
        self.alive, self.hangs, self.tasks_run, self.pid = True, False, 0, 1
        self.before: Callable[[], None] = lambda: None
        self._answers: deque[Outcome] = deque()

    def run(self, task: Task, on_fetched: Callable[[], None]) -> Outcome:
        self.tasks_run += 1
        self._answers.append(Done(task, 1.0, "host"))
        self.before()
        on_fetched()
        return self._answers.popleft()

    def log_tail(self) -> str:
        return ""

    def forget(self) -> None:
        self.alive = False


class _Supervised:
    """A WorkerProcess whose children are `_Child`; `refusals` are raised instead of the next ones."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, spares: int) -> None:
        self.made: list[_Child] = []
        self.refusals: deque[Exception] = deque()
        monkeypatch.setattr(worker_process, "ChildProcess", self._make)
        config = WorkerConfig(
            dataset=folder,
            spool=folder,
            endpoint="http://x",
            token=None,
            cache=None,
            download_timeout=1.0,
            unit_timeout=1.0,
            cpu_threads=1,
            device="cpu",
            spares=spares,
        )
        self.worker = WorkerProcess(config, "worker")

    def _make(self, config: WorkerConfig, log: Path, *, standby: bool) -> _Child:
        if self.made and self.refusals:
            raise self.refusals.popleft()
        self.made.append(_Child())
        return self.made[-1]


@pytest.mark.parametrize(
    "refusal", [InputError("the spool is full"), OSError(errno.ENOMEM, "Cannot allocate memory")], ids=["spool", "fork"]
)
def test_a_spare_that_cannot_be_had_fails_no_task_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    supervised = _Supervised(tmp_path, monkeypatch, spares=1)
    supervised.refusals.extend([refusal] * 2)  # while the first task runs, and after it
    for task in _tasks(3):
        outcome = supervised.worker.run(task)
        assert isinstance(outcome, Done) and outcome.task == task
    assert len(supervised.worker.spare_pids) == 1
    assert supervised.made[0].tasks_run == 3, "one child did them all"


def test_a_child_whose_answer_nobody_took_gets_no_other_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    supervised = _Supervised(tmp_path, monkeypatch, spares=0)
    first, second, third = _tasks(3)
    assert isinstance(supervised.worker.run(first), Done)

    def deny() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    supervised.made[0].before = deny
    refusal = supervised.worker.run(second)
    assert isinstance(refusal, InputError)
    assert "Too many open files" in str(refusal) and os.uname().nodename in str(refusal)
    outcome = supervised.worker.run(third)
    assert isinstance(outcome, Done) and outcome.task == third, "it is the answer to the task before"
    assert not supervised.made[0].alive


def test_a_machine_that_starts_no_process_is_refused_not_a_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    supervised = _Supervised(tmp_path, monkeypatch, spares=0)
    supervised.made.append(_Child())
    supervised.refusals.extend(OSError(errno.ENOMEM, "Cannot allocate memory") for _ in range(2))
    with pytest.raises(InputError, match="Cannot allocate memory"):
        supervised.worker.start()
    (task,) = _tasks(1)
    refusal = supervised.worker.run(task)
    assert isinstance(refusal, InputError) and "Cannot allocate memory" in str(refusal)
    assert isinstance(supervised.worker.run(task), Done), "it has memory again"


class _Undead:
    """A process in a call of the kernel that does not return: signals wait until it does."""

    def __init__(self) -> None:
        self.pid, self.killed, self.waits = 4_194_304, False, 0
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self.returncode

    def kill(self) -> None:
        self.killed = True

    def wait(self, timeout: float | None = None) -> int:
        """As `Popen.wait`, at once."""
        if self.returncode is None:
            assert timeout is not None, "it waits for ever"
            self.waits += 1
            raise subprocess.TimeoutExpired("worker", timeout)
        return self.returncode


@pytest.fixture
def undead(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[_Undead]]:
    """Every process that is started."""
    started: list[_Undead] = []

    def start(*_: object, **__: object) -> _Undead:
        started.append(_Undead())
        return started[-1]

    monkeypatch.setattr(child_process.subprocess, "Popen", start)
    monkeypatch.setattr(child_process, "START_SECONDS", 0.2)
    return started


def _config(folder: Path) -> WorkerConfig:
    return WorkerConfig(
        dataset=folder,
        spool=folder / "spool",
        endpoint="http://x",
        token=None,
        cache=None,
        download_timeout=0.1,
        unit_timeout=0.1,
        cpu_threads=1,
        device="cpu",
    )


def test_a_child_that_no_signal_ends_is_waited_for_once_and_its_worker_refuses_until_it_is_gone(
    tmp_path: Path, undead: list[_Undead]
) -> None:
    """It holds the GPU, or whatever does not answer there: another beside it would fail every unit."""
    worker = WorkerProcess(_config(tmp_path), "worker")
    first, second = _tasks(2)
    assert worker.run(first) == Died(first, 0, "")
    (child,) = undead
    assert child.killed and child.waits == 2, "to see it die, and after it was killed"
    for _ in range(2):
        refusal = worker.run(second)
        assert isinstance(refusal, InputError) and f"{child.pid} does not end" in str(refusal)
    assert (len(undead), child.waits) == (1, 2), "no other was started, and nobody waits again"
    child.returncode = -9
    assert isinstance(worker.run(second), Died), "the next one has its turn"
    assert len(undead) == 2
    worker.stop()


def test_a_log_that_somebody_removed_loses_no_outcome(tmp_path: Path, undead: list[_Undead]) -> None:
    child = child_process.ChildProcess(_config(tmp_path), tmp_path / "spool" / "a.log")
    (tmp_path / "spool" / "a.log").unlink()
    child.tasks_run = 1
    (task,) = _tasks(1)
    with pytest.raises(EOFError):
        child.run(task, lambda: None)
    assert child.log_tail() == ""
    child.forget()
