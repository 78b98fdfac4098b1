"""A death is remembered by the next driver, whether it was a worker's or the driver's own."""

import pickle
import subprocess
import sys
from pathlib import Path
from signal import SIGABRT, SIGBUS, SIGFPE, SIGKILL, SIGSEGV

import pytest

from manifests.draws import Draw
from manifests.generator import GeneratorSpec
from manifests.unit import UnitSpec
from pipeline.deaths import OTHER_DEATHS, DeathLog, InFlight
from pipeline.given_up import failure_reason
from pipeline.interruption import DeviceLost
from pipeline.scheduler import Scheduler
from pipeline.tasks import Died, Done, Failed, Task, Verdict
from pipeline.work_queue import TaskGroup
from shards.statuses import Reason


def _tasks(generator: str, units: int) -> list[Task]:
    spec = GeneratorSpec(name=generator, kind="unconditional", repo_id=f"owner/{generator}", family="family")
    draw = Draw(index=0, seed=1, prompt_id="p", prompt="", prompt_source="unconditional")
    return [
        Task(UnitSpec(generator=spec, first=first, count=1, draws=(draw,), batch_size=1, cpu_threads=1))
        for first in range(units)
    ]


def _scheduler(folder: Path, *groups: tuple[str, int]) -> Scheduler:
    """A driver's scheduler over what no earlier one has committed."""
    tasks = [TaskGroup(name, "family", iter(_tasks(name, units)), units) for name, units in groups]
    return Scheduler(tasks, attempts=3, deaths=DeathLog(folder))


def _order(scheduler: Scheduler) -> list[str]:
    order = []
    while (task := scheduler.lease(0)) is not None:
        order.append(task.group)
        scheduler.judge(Done(task, 0.0, "host"))
    return order


def test_a_driver_knows_the_deaths_of_the_one_before(tmp_path: Path) -> None:
    first = _scheduler(tmp_path, ("bad", 1), ("good", 1))
    first.judge(Died(first.lease(0), SIGSEGV))
    second = _scheduler(tmp_path, ("bad", 1), ("good", 1))
    bad = second.lease(0)
    second.judge(Died(bad, SIGSEGV))
    assert second.quarantined == {bad.id}
    third = _scheduler(tmp_path, ("bad", 1), ("good", 1))
    assert _order(third) == ["good", "bad"], "it comes last"
    assert third.quarantined == {bad.id}
    third.finish()
    assert not any(tmp_path.iterdir()) if tmp_path.exists() else True


def test_a_unit_that_was_done_starts_anew(tmp_path: Path) -> None:
    first = _scheduler(tmp_path, ("a", 1))
    task = first.lease(0)
    first.judge(Died(task, SIGSEGV))
    first.judge(Done(first.lease(0), 0.0, "host"))
    assert DeathLog(tmp_path).of(task) is None


def test_a_cut_last_line_loses_one_death_and_no_more(tmp_path: Path) -> None:
    task = _tasks("a", 1)[0]
    log = DeathLog(tmp_path)
    for _ in range(2):
        log.add(task, SIGSEGV)
    path = tmp_path / "log.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    deaths = DeathLog(tmp_path).of(task)
    assert deaths is not None
    assert deaths.fatal == 1


def test_a_line_after_a_cut_one_is_a_line_of_its_own(tmp_path: Path) -> None:
    task = _tasks("a", 1)[0]
    DeathLog(tmp_path).add(task, SIGSEGV)
    path = tmp_path / "log.jsonl"
    whole = path.read_bytes()
    for cut in (whole[:-20], whole[:-1], whole):
        path.write_bytes(cut)
        DeathLog(tmp_path).add(task, SIGABRT)
        assert path.read_bytes().startswith(cut.removesuffix(b"\n") + b"\n{")
        deaths = DeathLog(tmp_path).of(task)
        assert deaths is not None
        assert (deaths.fatal, deaths.last) == (1 if cut == whole[:-20] else 2, SIGABRT)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_takes_no_more_than_the_memory_of_a_death(tmp_path: Path) -> None:
    task = _tasks("a", 1)[0]
    log = DeathLog(tmp_path)
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    assert log.add(task, SIGSEGV).fatal == 1
    assert log.of(task) is not None


CRASH = """
import ctypes, os, pickle, signal, sys
from pathlib import Path
from pipeline.deaths import InFlight

folder, task, how = pickle.loads(bytes.fromhex(sys.argv[1]))
with InFlight(folder).unit(task):
    if how == "read at address 0":
        ctypes.string_at(0)
    elif how == "abort":
        ctypes.CDLL(None).abort()
    else:
        os.kill(os.getpid(), how)
"""


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("read at address 0", SIGSEGV),
        ("abort", SIGABRT),
        (SIGBUS, SIGBUS),
        (SIGFPE, SIGFPE),
        (SIGKILL, 0),
    ],
)
def test_how_a_driver_died_that_sampled_by_itself(tmp_path: Path, how: str | int, expected: int) -> None:
    task = _tasks("a", 1)[0]
    arguments = pickle.dumps((tmp_path, task, how)).hex()
    dead = subprocess.run([sys.executable, "-c", CRASH, arguments], capture_output=True, check=False)
    assert dead.returncode < 0
    deaths = DeathLog(tmp_path).of(task)
    assert deaths is not None
    assert (deaths.last, deaths.fatal, deaths.other) == (expected, int(expected != 0), int(expected == 0))
    again = DeathLog(tmp_path).of(task)
    assert again == deaths, "one death counts once"


def test_a_driver_that_lives_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "deaths"
    in_flight = InFlight(folder)
    with pytest.raises(KeyboardInterrupt), in_flight.unit(_tasks("a", 1)[0]):
        raise KeyboardInterrupt
    assert DeathLog(folder).of(_tasks("a", 1)[0]) is None
    in_flight.close()
    assert not folder.exists()


def test_a_driver_that_lost_its_device_leaves_a_crash(tmp_path: Path) -> None:
    folder, task = tmp_path / "deaths", _tasks("a", 1)[0]
    for count in (1, 2):
        in_flight = InFlight(folder)
        with pytest.raises(DeviceLost), in_flight.unit(task):
            raise DeviceLost("an illegal access")
        in_flight.close()
        deaths = DeathLog(folder).of(task)
        assert deaths is not None
        assert (deaths.fatal, deaths.other, deaths.last) == (count, 0, 0)


def _driver_dies(folder: Path, task: Task) -> None:
    """What the marker of a driver that was killed by SIGKILL leads to."""
    DeathLog(folder).add(task, 0)


def test_an_operator_who_kills_the_driver_again_and_again_only_puts_the_unit_off(tmp_path: Path) -> None:
    for death in range(1, 2 * OTHER_DEATHS):
        scheduler = _scheduler(tmp_path, ("a", 1), ("b", 1))
        leased = [scheduler.lease(0)]
        if death > OTHER_DEATHS - 1:
            assert leased[0].group == "b", "it waits for the end"
            scheduler.judge(Done(leased[0], 0.0, "host"))
            leased.append(scheduler.lease(0))
        assert leased[-1].group == "a"
        assert leased[-1].final_pass == (death > OTHER_DEATHS)
        _driver_dies(tmp_path, leased[-1])
    last = _scheduler(tmp_path, ("a", 1), ("b", 1))
    assert _order(last) == ["b", "a"]
    _driver_dies(tmp_path, leased[-1])


def test_a_unit_that_killed_ten_drivers_is_given_up(tmp_path: Path) -> None:
    task = _tasks("a", 1)[0]
    for _ in range(2 * OTHER_DEATHS):
        _driver_dies(tmp_path, task)
    scheduler = _scheduler(tmp_path, ("a", 1), ("b", 1))
    assert _order(scheduler) == ["b"]
    (lost,) = scheduler.take_foregone()
    assert failure_reason(lost)[0] is Reason.quarantined


def test_a_model_that_crashes_the_driver_in_its_last_chance_is_given_up_by_the_next(tmp_path: Path) -> None:
    """Each driver dies at once; the committed units of the one before are not planned again."""
    committed: set[str] = set()
    crashes = []
    for _ in range(10):
        left = {name: [task for task in _tasks(name, units) if task.id not in committed] for name, units in UNITS}
        groups = [TaskGroup(name, "family", iter(tasks), len(tasks)) for name, tasks in left.items()]
        scheduler = Scheduler(groups, attempts=3, deaths=DeathLog(tmp_path))
        crashed = None
        while crashed is None and (task := scheduler.lease(0)) is not None:
            committed.update(lost.task.id for lost in scheduler.take_foregone())
            if task.group == "bad":
                crashed = task
                DeathLog(tmp_path).add(task, SIGSEGV)
            else:
                assert scheduler.judge(Done(task, 0.0, "host")) is Verdict.COMMIT
                committed.add(task.id)
        if crashed is None:
            break
        crashes.append(crashed.final_pass)
    foregone = scheduler.take_foregone()
    assert {failure_reason(lost)[0] for lost in foregone} == {Reason.worker_signal}
    assert all(isinstance(lost, Died | Failed) for lost in foregone)
    assert len(committed) + len(foregone) == sum(units for _, units in UNITS)
    assert crashes == [False, False, True, True], "two of one unit, its last chance, and another unit of it"


UNITS = (("bad", 6), ("good", 2))
