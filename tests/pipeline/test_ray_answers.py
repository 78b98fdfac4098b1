"""What Ray answers for an actor is never the run's end while others work. The cluster is a stand-in: its faults cannot
be had at will."""

import errno
from concurrent.futures import Future
from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError, ActorUnschedulableError, RaySystemError, RayTaskError

from manifests.draws import Draw
from manifests.errors import InputError
from manifests.generator import GeneratorSpec
from manifests.unit import UnitSpec
from pipeline.config import ExecuteConfig
from pipeline.executors import ray as ray_executor
from pipeline.executors.ray_restarts import Restarts
from pipeline.tasks import Died, Done, Outcome, Task
from pipeline.worker_config import WorkerConfig

_NO_MEMORY = OSError(errno.ENOMEM, "Cannot allocate memory")
FAULTS = [
    RayTaskError("RayWorker.run", "Traceback ...\nOSError: Cannot allocate memory", _NO_MEMORY).as_instanceof_cause(),
    ActorUnschedulableError("no node can hold it any more"),
    RaySystemError("the object store does not answer"),
    ActorDiedError(),
]


def _task() -> Task:
    spec = GeneratorSpec(name="a", kind="unconditional", repo_id="owner/a", family="f")
    draw = Draw(index=0, seed=1, prompt_id="p", prompt="", prompt_source="unconditional")
    return Task(UnitSpec(generator=spec, first=0, count=1, draws=(draw,), batch_size=1, cpu_threads=1))


class _Call:
    """A method of an actor; its answer is what the test makes of the future."""

    def __init__(self, calls: "list[Future[Outcome | InputError | None]]") -> None:
        self._calls = calls

    def remote(self, *_: object) -> "_Call":
        return self

    def future(self) -> "Future[Outcome | InputError | None]":
        self._calls.append(Future())
        return self._calls[-1]


class _Cluster:
    """Actors that are asked `ready` and `run`; `starts` and `runs` are what was asked, oldest first."""

    def __init__(self) -> None:
        self.starts: list[Future[Outcome | InputError | None]] = []
        self.runs: list[Future[Outcome | InputError | None]] = []
        self.names: list[str] = []
        self.ready, self.run = _Call(self.starts), _Call(self.runs)

    def remote(self, *arguments: object, **_: object) -> "_Cluster":
        if arguments:
            self.names.append(str(arguments[-1]))
        return self

    def options(self, **_: object) -> "_Cluster":
        return self

    def __call__(self, _: type) -> "_Cluster":
        return self

    def kill(self, actor: object, no_restart: bool = True) -> None:
        assert actor is self


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> _Cluster:
    cluster = _Cluster()
    monkeypatch.setattr(ray_executor.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray_executor.ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}])
    monkeypatch.setattr(ray_executor.ray, "remote", lambda **_: cluster)
    monkeypatch.setattr(ray_executor.ray, "kill", cluster.kill)
    return cluster


def _executor(folder: Path, workers: int) -> ray_executor.RayExecutor:
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
    )
    executor = ray_executor.RayExecutor(config, ExecuteConfig(workers=workers))
    executor.start()
    return executor


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_whatever_ray_says_the_task_is_a_dead_workers_and_another_takes_its_place(
    cluster: _Cluster, tmp_path: Path, fault: Exception
) -> None:
    executor = _executor(tmp_path, 1)
    cluster.starts[0].set_result(None)
    assert executor.wait() is None
    executor.submit(0, _task(), fresh=False)
    cluster.runs[0].set_exception(fault)
    ended = executor.wait()
    assert ended is not None and isinstance(ended[1], Died)
    assert "Traceback" not in ended[1].log_tail
    assert executor.idle() == [] and len(cluster.starts) == 2, "it is coming up"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_worker_that_dies_at_every_start_waits_longer_each_time_and_the_others_go_on(
    cluster: _Cluster, tmp_path: Path, fault: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    executor, clock = _executor(tmp_path, 2), _Clock()
    executor._restarts = Restarts(clock)
    cluster.starts[0].set_result(None)
    assert executor.wait() is None
    for pause in (5, 10, 20, 40):
        cluster.starts[-1].set_exception(fault)
        assert executor.wait() is None
        asked = len(cluster.starts)
        assert f"worker 1 died at its start; the next try is in {pause} s" in capsys.readouterr().err
        assert executor.up() == {0} and executor.starting()
        executor.submit(0, _task(), fresh=False)
        cluster.runs[-1].set_result(Done(_task(), 1.0, "host"))
        ended = executor.wait()
        assert ended is not None and isinstance(ended[1], Done), "the driver waits for the other one"
        assert len(cluster.starts) == asked, "not before its time"
        clock.now += pause
        executor.submit(0, _task(), fresh=False)
        cluster.runs[-1].set_result(Done(_task(), 1.0, "host"))
        assert executor.wait() is not None
        assert len(cluster.starts) == asked + 1
    cluster.starts[-1].set_result(None)
    assert executor.wait() is None
    assert executor.up() == {0, 1}


def test_workers_of_which_none_ever_came_up_end_the_run_at_once(cluster: _Cluster, tmp_path: Path) -> None:
    executor = _executor(tmp_path, 1)
    with pytest.raises(InputError, match=r"execute\.executor: Ray workers die at their start"):
        for _ in range(9):
            cluster.starts[-1].set_exception(FAULTS[0])
            executor.wait()
    assert len(cluster.starts) == ray_executor.FAILED_STARTS


def test_a_worker_whose_machine_refuses_is_asked_again_while_the_others_go_on(
    cluster: _Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    executor, clock = _executor(tmp_path, 2), _Clock()
    executor._restarts = Restarts(clock)
    full = InputError("/spool: cannot be written: No space left on device")
    cluster.starts[1].set_result(full)
    assert executor.wait() is None
    assert "worker 1 gets no work; the next try is in 5 s: /spool" in capsys.readouterr().err
    assert executor.up() == set() and executor.starting(), "the first to answer does not speak for all"
    cluster.starts[0].set_result(None)
    assert executor.wait() is None
    clock.now += 5
    executor.submit(0, _task(), fresh=False)
    cluster.runs[-1].set_result(Done(_task(), 1.0, "host"))
    assert executor.wait() is not None
    cluster.starts[2].set_result(None)
    assert executor.wait() is None
    assert executor.up() == {0, 1}, "somebody mended it"


def test_workers_that_all_refuse_end_the_run_with_the_last_ones_reason(cluster: _Cluster, tmp_path: Path) -> None:
    executor = _executor(tmp_path, 2)
    cluster.starts[0].set_result(InputError("the first one's"))
    assert executor.wait() is None
    cluster.starts[1].set_result(InputError("the last one's"))
    with pytest.raises(InputError, match="the last one's"):
        executor.wait()
