"""Who is blamed for a failure: the unit, its generator, the worker, the hub, or nobody."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from manifests.draws import Draw
from manifests.errors import InputError
from manifests.generator import GeneratorSpec
from manifests.unit import UnitSpec
from pipeline import bench
from pipeline.blame import LOST_UNITS
from pipeline.driver import BUGS_THAT_STOP, SETBACKS, Tally, drive
from pipeline.events import EventLog, read_events
from pipeline.interruption import HubOutage, NotFetched
from pipeline.scheduler import Scheduler
from pipeline.tasks import Bug, Died, Done, Failed, Outcome, Task, Verdict
from pipeline.work_queue import TaskGroup
from shards.statuses import Reason

ATTEMPTS = 3
BEFORE_SAMPLING = [Reason.download_failed, Reason.disk_budget, Reason.invalid_pipeline, Reason.missing_file]


def _group(name: str, units: int) -> TaskGroup:
    spec = GeneratorSpec(name=name, kind="unconditional", repo_id=f"owner/{name}", family="f")
    draw = Draw(index=0, seed=1, prompt_id="p", prompt="", prompt_source="unconditional")
    tasks = [
        Task(UnitSpec(generator=spec, first=number, count=1, draws=(draw,), batch_size=1, cpu_threads=1))
        for number in range(units)
    ]
    return TaskGroup(name, "f", iter(tasks), units, spec)


def _lease(scheduler: Scheduler, worker: int = 0) -> Task:
    task = scheduler.lease(worker)
    assert task is not None
    return task


def _fail(scheduler: Scheduler, reason: Reason, worker: int = 0) -> Verdict:
    return scheduler.judge(Failed(_lease(scheduler, worker), reason, "why", host=f"node-{worker}"))


@pytest.mark.parametrize("reason", BEFORE_SAMPLING)
@pytest.mark.parametrize("earlier", [True, False], ids=["worked in an earlier run", "worked in this run"])
def test_a_generator_that_has_worked_loses_one_unit_and_no_more(reason: Reason, earlier: bool) -> None:
    scheduler = Scheduler([_group("a", 9)], ATTEMPTS, worked={"a"} if earlier else ())
    if not earlier:
        scheduler.judge(Done(_lease(scheduler), 0.0, "host"))
    assert [_fail(scheduler, reason) for _ in range(ATTEMPTS)] == [Verdict.RETRY, Verdict.RETRY, Verdict.GIVE_UP]
    done = 0
    while (task := scheduler.lease(0)) is not None:
        scheduler.judge(Done(task, 0.0, "host"))
        done += 1
    assert done == (8 if earlier else 7)
    assert scheduler.take_foregone() == [] and scheduler.finished


def test_a_unit_that_is_done_after_all_clears_its_generator() -> None:
    scheduler = Scheduler([_group("a", 9)], ATTEMPTS)
    good = _lease(scheduler, 1)
    assert _fail(scheduler, Reason.invalid_pipeline, 0) is Verdict.RETRY, "it may be the worker's own"
    assert scheduler.lease(0) is None
    assert _fail(scheduler, Reason.invalid_pipeline, 2) is Verdict.GIVE_UP, "two have seen it"
    scheduler.judge(Done(good, 0.0, "host"))
    left = 0
    while (task := scheduler.lease(0)) is not None:
        scheduler.judge(Done(task, 0.0, "host"))
        left += 1
    assert left == 7 and scheduler.take_foregone() == []


@pytest.mark.parametrize("reason", [Reason.unit_timeout, Reason.sampling_error, Reason.internal_error])
def test_a_generator_of_which_no_unit_comes_to_its_end_is_not_tried_unit_by_unit(reason: Reason) -> None:
    scheduler = Scheduler([_group("hangs", 625), _group("good", 2)], ATTEMPTS)
    leases = {"hangs": 0, "good": 0}
    while (task := scheduler.lease(0)) is not None:
        leases[task.group] += 1
        scheduler.judge(Failed(task, reason, "") if task.group == "hangs" else Done(task, 0.0, "host"))
    assert leases == {"hangs": LOST_UNITS * ATTEMPTS, "good": 2}
    foregone = scheduler.take_foregone()
    assert len(foregone) == 625 - LOST_UNITS
    assert {(lost.reason, lost.detail) for lost in foregone if isinstance(lost, Failed)} == {
        (reason, "not tried: 2 units of this generator failed, and none was done")
    }


def test_what_failed_on_one_worker_is_tried_on_another() -> None:
    scheduler = Scheduler([_group("a", 3), _group("b", 3)], ATTEMPTS)
    first, other = _lease(scheduler, 0), _lease(scheduler, 1)
    scheduler.judge(Failed(first, Reason.sampling_error, ""))
    following = _lease(scheduler, 0)
    assert following.group == "a" and following.id != first.id, "it goes on with the next unit"
    scheduler.judge(Done(other, 0.0, "host"))
    for _ in range(2):
        scheduler.judge(Done(_lease(scheduler, 1), 0.0, "host"))
    again = _lease(scheduler, 1)
    assert (again.id, again.attempt) == (first.id, 2), "when it is through with its own"


def test_while_it_is_not_known_whether_a_generator_can_be_had_its_other_units_wait() -> None:
    scheduler = Scheduler([_group("a", 5), _group("b", 5)], ATTEMPTS)
    first, other = _lease(scheduler, 0), _lease(scheduler, 1)
    assert (first.group, other.group) == ("a", "b")
    scheduler.judge(Failed(first, Reason.download_failed, ""))
    assert _lease(scheduler, 0).group == "b", "not the next one of a, which would go the same way"
    scheduler.judge(Failed(other, Reason.sampling_error, ""))
    seen = {_lease(scheduler, 1).id}
    assert seen == {first.id} or first.id in {_lease(scheduler, worker).id for worker in (2, 3)}


def test_what_the_hub_says_of_a_generator_needs_no_second_worker() -> None:
    scheduler = Scheduler([_group("gone", 3), _group("b", 3)], ATTEMPTS)
    gone, _ = _lease(scheduler, 0), _lease(scheduler, 1)
    assert scheduler.judge(Failed(gone, Reason.repo_not_found, "404")) is Verdict.GIVE_UP


@pytest.mark.parametrize(
    "reason", [Reason.download_failed, Reason.device_lost, Reason.sampling_error, Reason.corrupt_weights]
)
@pytest.mark.parametrize("bad", [1, 3])
def test_bad_machines_write_off_no_catalog(reason: Reason, bad: int, tmp_path: Path) -> None:
    """Bad workers fail at once and ask for more, while the others are busy."""

    def fails(task: Task) -> Outcome:
        return Failed(task, reason, "", host="bad")

    workers = BusyWorkers([fails] * bad + [_done] * (16 - bad), seconds=[10.0] * bad + [300.0] * (16 - bad))
    _, done, lost, events = _drive(tmp_path, workers, *(_group(f"g{number}", 5) for number in range(80)))
    assert len(done) + len(lost) == 400
    assert len(lost) <= 2, [unit.task.group for unit in lost]
    assert {event["worker"] for event in events if event["event"] == "benched"} == set(range(bad))


def test_an_outage_of_the_hub_counts_for_nothing() -> None:
    excuses = deque([True] * 10 + [False] * ATTEMPTS)
    scheduler = Scheduler([_group("a", 1)], ATTEMPTS, excuse=lambda failure: excuses.popleft())
    verdicts = [_fail(scheduler, Reason.download_failed) for _ in range(10 + ATTEMPTS)]
    assert verdicts == [Verdict.RETRY] * (9 + ATTEMPTS) + [Verdict.GIVE_UP]


class ScriptedWorkers:
    """Workers that answer at once, each by a function of its own."""

    def __init__(self, *answers: Callable[[Task], Outcome]) -> None:
        self._answers = answers
        self._ended: deque[tuple[int, Outcome]] = deque()
        self._free = dict.fromkeys(range(len(answers)))

    def start(self) -> None:
        """There is nothing to start."""

    def idle(self) -> list[int]:
        return list(self._free)

    def up(self) -> set[int]:
        return set(range(len(self._answers)))

    def submit(self, worker: int, task: Task, *, fresh: bool) -> None:
        del self._free[worker]
        self._ended.append((worker, self._answers[worker](task)))

    def starting(self) -> bool:
        return False

    def wait(self, timeout: float | None = None) -> tuple[int, Outcome]:
        worker, outcome = self._ended.popleft()
        self._free[worker] = None
        return worker, outcome

    def close(self) -> None:
        """There is nothing to end."""


class BusyWorkers(ScriptedWorkers):
    """They take their time, of a clock of their own, which nobody waits for."""

    def __init__(self, answers: Sequence[Callable[[Task], Outcome]], seconds: Sequence[float]) -> None:
        super().__init__(*answers)
        self._seconds = seconds
        self._now = 0.0
        self._order = itertools.count()
        self._due: list[tuple[float, int, int, Outcome]] = []

    def submit(self, worker: int, task: Task, *, fresh: bool) -> None:
        super().submit(worker, task, fresh=fresh)
        _, outcome = self._ended.pop()
        heapq.heappush(self._due, (self._now + self._seconds[worker], next(self._order), worker, outcome))

    def wait(self, timeout: float | None = None) -> tuple[int, Outcome]:
        self._now, _, worker, outcome = heapq.heappop(self._due)
        self._free[worker] = None
        return worker, outcome


def _done(task: Task) -> Outcome:
    return Done(task, 0.0, "host")


def _drive(
    folder: Path, workers: ScriptedWorkers, *groups: TaskGroup, outlast: Callable[[], None] | None = None
) -> tuple[Tally, list[str], list[Failed | Died], list[dict[str, object]]]:
    done: list[str] = []
    lost: list[Failed | Died] = []
    with closing(EventLog(folder / "events.jsonl")) as events:
        scheduler = Scheduler(groups, ATTEMPTS)
        tally = drive(scheduler, workers, events, lambda outcome: done.append(outcome.task.id), lost.append, outlast)
    return tally, done, lost, read_events(folder / "events.jsonl")


def test_a_worker_whose_machine_is_full_gets_no_more_work_and_the_others_do_it_all(tmp_path: Path) -> None:
    refusal = InputError("/spool: cannot be written: No space left on device")
    tally, done, lost, events = _drive(tmp_path, ScriptedWorkers(lambda task: refusal, _done), _group("a", 6))
    assert (len(set(done)), lost) == (6, [])
    assert tally.retried == 0
    (benched,) = (event for event in events if event["event"] == "benched")
    assert (benched["worker"], benched["detail"]) == (0, str(refusal))


def test_a_worker_whose_machine_was_mended_is_given_work_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "BENCHED_SECONDS", 0.0)
    answers: deque[Outcome] = deque([InputError("full"), InputError("full")])
    _, done, lost, events = _drive(
        tmp_path, ScriptedWorkers(lambda task: answers.popleft() if answers else _done(task), _done), _group("a", 9)
    )
    assert (len(set(done)), lost) == (9, [])
    leased = [event["worker"] for event in events if event["event"] == "leased"]
    assert leased.count(0) > 2 and sum(event["event"] == "benched" for event in events) == 2


def test_when_every_worker_refuses_the_run_ends_with_the_reason(tmp_path: Path) -> None:
    refusal = InputError("sample.checker: cannot be had")
    workers = ScriptedWorkers(lambda task: refusal, lambda task: refusal)
    with pytest.raises(InputError, match="cannot be had"):
        _drive(tmp_path, workers, _group("a", 6))


def test_an_outage_that_workers_meet_is_outlasted(tmp_path: Path) -> None:
    hub = {"out": True, "waited": 0}

    def outlast() -> None:
        hub.update(out=False, waited=hub["waited"] + 1)

    def asks(task: Task) -> Outcome:
        return HubOutage("the hub does not answer") if hub["out"] else _done(task)

    tally, done, lost, _ = _drive(tmp_path, ScriptedWorkers(asks, asks), _group("a", 6), outlast=outlast)
    assert (len(set(done)), lost, tally.retried, hub["out"]) == (6, [], 0, False)
    assert hub["waited"] > 0


@pytest.mark.parametrize("refusal", [HubOutage("the hub does not answer"), NotFetched("sample.checker: cut")])
def test_a_worker_that_alone_reaches_no_hub_gets_no_more_work(tmp_path: Path, refusal: InputError) -> None:
    workers = ScriptedWorkers(lambda task: refusal, _done)
    _, done, lost, events = _drive(tmp_path, workers, _group("a", 9), outlast=lambda: None)
    assert (len(set(done)), lost) == (9, [])
    assert [event["worker"] for event in events if event["event"] == "benched"] == [0]
    assert [event["worker"] for event in events if event["event"] == "leased"].count(0) == SETBACKS + 1


def test_an_outage_that_was_over_before_anybody_asked_ends_no_run(tmp_path: Path) -> None:
    answers: deque[Outcome] = deque([NotFetched("sample.checker: 503 Service Unavailable")] * SETBACKS)
    workers = ScriptedWorkers(lambda task: answers.popleft() if answers else _done(task))
    _, done, lost, events = _drive(tmp_path, workers, _group("a", 6), outlast=lambda: None)
    assert (len(set(done)), lost) == (6, [])
    assert [event for event in events if event["event"] == "benched"] == []


def test_an_outage_that_lasts_too_long_ends_the_run(tmp_path: Path) -> None:
    outage = HubOutage("the hub does not answer")

    def outlast() -> None:
        raise outage

    with pytest.raises(HubOutage):
        _drive(tmp_path, ScriptedWorkers(lambda task: outage, _done), _group("a", 6), outlast=outlast)


def test_without_patience_an_outage_that_every_worker_meets_ends_the_run(tmp_path: Path) -> None:
    outage = HubOutage("the hub does not answer")
    with pytest.raises(HubOutage):
        _drive(tmp_path, ScriptedWorkers(lambda task: outage, lambda task: outage), _group("a", 6))


def test_what_nobody_foresaw_ends_a_unit_and_not_the_run(tmp_path: Path) -> None:
    def breaks(task: Task) -> Outcome:
        return Bug("Traceback ...\nStopIteration: odd") if task.group == "odd" else _done(task)

    tally, done, lost, events = _drive(tmp_path, ScriptedWorkers(breaks), _group("odd", 1), _group("good", 4))
    assert len(done) == 4
    assert [(unit.reason, unit.detail) for unit in lost if isinstance(unit, Failed)] == [
        (Reason.internal_error, "StopIteration: odd")
    ]
    assert len(tally.bugs) == 1 and sum(event["event"] == "bug" for event in events) == ATTEMPTS


def test_when_there_is_nothing_but_bugs_the_run_ends(tmp_path: Path) -> None:
    asked: list[str] = []

    def breaks(task: Task) -> Outcome:
        asked.append(task.id)
        return Bug("Traceback ...\nNameError: ours")

    with pytest.raises(RuntimeError, match="NameError: ours"):
        _drive(tmp_path, ScriptedWorkers(breaks), *(_group(f"g{number}", 1) for number in range(9)))
    assert len(asked) == ATTEMPTS * (BUGS_THAT_STOP - 1) + 1
