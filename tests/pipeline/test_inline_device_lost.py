"""A model that breaks the device of the driver's own process must not stop every driver at the same unit."""

from pathlib import Path

import pytest

from manifests.draws import Draw
from manifests.generator import GeneratorSpec
from manifests.unit import UnitSpec
from pipeline.deaths import FATAL_DEATHS, DeathLog
from pipeline.executors import inline
from pipeline.executors.inline import InlineExecutor
from pipeline.interruption import DeviceLost
from pipeline.scheduler import Scheduler
from pipeline.tasks import Done, Failed, Outcome, Task
from pipeline.work_queue import TaskGroup
from pipeline.worker_config import WorkerConfig
from shards.statuses import Reason


class _Worker:
    """Loses the device under every unit of the generator `bad`."""

    def __init__(self, config: WorkerConfig) -> None:
        pass

    def run(self, task: Task) -> Outcome:
        if task.group == "bad":
            return Failed(task, Reason.device_lost, "cuda:0 answers no more")
        return Done(task, 1.0, "host")

    def close(self) -> None: ...


def _group(generator: str) -> TaskGroup:
    spec = GeneratorSpec(name=generator, kind="unconditional", repo_id=f"owner/{generator}", family="f")
    draw = Draw(index=0, seed=1, prompt_id="p", prompt="", prompt_source="unconditional")
    task = Task(UnitSpec(generator=spec, first=0, count=1, draws=(draw,), batch_size=1, cpu_threads=1))
    return TaskGroup(generator, "f", iter([task]), 1)


def test_the_unit_comes_last_after_as_many_stops_as_crashes_would_take_and_is_given_up_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inline, "Worker", _Worker)
    config = WorkerConfig(
        dataset=tmp_path,
        spool=tmp_path,
        endpoint="http://x",
        token=None,
        cache=None,
        download_timeout=1.0,
        unit_timeout=1.0,
        cpu_threads=1,
        device="cpu",
    )
    done_by: list[int] = []
    for driver in range(1, FATAL_DEATHS + 2):
        groups = ["bad"] if done_by else ["bad", "good"]
        scheduler = Scheduler(map(_group, groups), attempts=3, deaths=DeathLog(tmp_path / "deaths"))
        executor = InlineExecutor(config, tmp_path / "deaths")
        executor.start()
        try:
            with pytest.raises(DeviceLost):
                while (task := scheduler.lease(0)) is not None:
                    executor.submit(0, task, fresh=scheduler.needs_fresh_worker(task))
                    outcome = executor.wait()[1]
                    scheduler.judge(outcome)
                    done_by.append(driver)
        finally:
            executor.close()
    assert done_by == [FATAL_DEATHS + 1], "the good one, once the bad one comes last"
    last = Scheduler([_group("bad")], attempts=3, deaths=DeathLog(tmp_path / "deaths"))
    assert last.lease(0) is None and [lost.task.group for lost in last.take_foregone()] == ["bad"]
