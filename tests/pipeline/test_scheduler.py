"""Whatever workers do, every task ends exactly once, and a unit that kills workers is set apart."""

from signal import SIGABRT, SIGKILL, SIGSEGV

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.draws import Draw
from manifests.generator import GeneratorSpec
from manifests.unit import UnitSpec
from pipeline.blame import LOST_UNITS
from pipeline.deaths import FATAL_DEATHS, OTHER_DEATHS, DeathLog
from pipeline.given_up import failure_reason
from pipeline.scheduler import Scheduler
from pipeline.tasks import Died, Done, Failed, Task, Verdict
from pipeline.work_queue import TaskGroup
from shards.statuses import Reason

ATTEMPTS = 3


def _spec(generator: str, family: str = "family") -> GeneratorSpec:
    return GeneratorSpec(name=generator, kind="unconditional", repo_id=f"owner/{generator}", family=family)


def _tasks(generator: str, units: int, family: str = "family", batch_size: int = 1) -> list[Task]:
    spec = _spec(generator, family)
    draw = Draw(index=0, seed=1, prompt_id="p", prompt="", prompt_source="unconditional")
    return [
        Task(UnitSpec(generator=spec, first=number, count=1, draws=(draw,), batch_size=batch_size, cpu_threads=1))
        for number in range(units)
    ]


def _scheduler(
    *groups: tuple[str, str, int], prefetch: int = 0, batch_size: int = 1, deaths: DeathLog | None = None
) -> Scheduler:
    return Scheduler(
        [
            TaskGroup(name, family, iter(_tasks(name, units, family, batch_size)), units, _spec(name, family))
            for name, family, units in groups
        ],
        ATTEMPTS,
        prefetch=prefetch,
        deaths=deaths,
    )


def _run_out(scheduler: Scheduler, worker: int = 0) -> list[str]:
    """Do everything that is left, with one worker; return the groups in their order."""
    groups = []
    while (task := scheduler.lease(worker)) is not None:
        groups.append(task.group)
        scheduler.judge(Done(task, 0.0, "host"))
    return groups


def test_a_worker_stays_with_its_generator_then_its_family_then_takes_another():
    scheduler = _scheduler(("a1", "a", 2), ("b1", "b", 1), ("a2", "a", 1))
    order = []
    while (task := scheduler.lease(0)) is not None:
        order.append(task.group)
        scheduler.judge(Done(task, 0.0, "host"))
    assert order == ["a1", "a1", "a2", "b1"]
    assert scheduler.finished


def test_workers_spread_over_generators_before_they_share_one():
    scheduler = _scheduler(("a", "x", 3), ("b", "x", 3))
    assert [scheduler.lease(worker).group for worker in range(3)] == ["a", "b", "a"]


def test_who_helps_goes_where_most_is_left_for_each_worker():
    scheduler = _scheduler(("a", "x", 3), ("b", "x", 3), ("c", "x", 3))
    for worker, units in enumerate((2, 1, 3)):
        for _ in range(units):
            scheduler.lease(worker)
    assert [scheduler.lease(worker).group for worker in (3, 4)] == ["b", "a"]


def test_a_generator_bigger_than_a_share_is_opened_by_several_before_the_others():
    sizes = (("a", "x", 7), ("big", "y", 100), ("b", "x", 7), ("c", "x", 7))
    scheduler = _scheduler(*sizes)
    leased = [scheduler.lease(worker).group for worker in range(6)]
    assert leased.count("big") == 5, "121 units on 6 workers: a share is 20"
    assert leased.count("a") == 1
    assert {scheduler.lease(worker).group for worker in range(5)} == {"big"}, "each stays"


def test_a_worker_is_told_what_comes_next_near_the_end_and_no_other_gets_it():
    scheduler = _scheduler(("a1", "a", 3), ("b1", "b", 3), ("a2", "a", 2), ("b2", "b", 2), prefetch=1)
    first, other = scheduler.lease(0), scheduler.lease(1)
    assert (first.group, other.group, first.upcoming, other.upcoming) == ("a1", "b1", (), ())
    assert [spec.name for spec in scheduler.lease(0).upcoming] == ["a2"], "one unit of a1 is left"
    assert [spec.name for spec in scheduler.lease(0).upcoming] == ["a2"]
    assert [scheduler.lease(1).group for _ in range(2)] == ["b1", "b1"]
    assert scheduler.lease(1).group == "b2"
    assert scheduler.lease(0).group == "a2"


def test_a_promise_is_broken_before_a_worker_has_to_help_and_the_other_is_not_held_up():
    scheduler = _scheduler(("a", "x", 2), ("b", "x", 2), prefetch=1)
    assert [spec.name for spec in scheduler.lease(0).upcoming] == ["b"]
    assert [scheduler.lease(1).group for _ in range(2)] == ["b", "b"]
    last = scheduler.lease(0)
    assert (last.group, last.upcoming) == ("a", ())
    assert scheduler.lease(0) is scheduler.lease(1) is None


def test_a_unit_without_memory_gets_a_fresh_worker_then_halves_and_is_given_up_as_oom():
    scheduler = _scheduler(("a", "x", 1), ("b", "x", 1), batch_size=6)
    tried = []
    verdict = Verdict.RETRY
    while verdict is Verdict.RETRY:
        task = scheduler.lease(0)
        tried.append((task.halvings, scheduler.needs_fresh_worker(task)))
        failure = Failed(task, Reason.device_oom, "2 GiB wanted")
        verdict = scheduler.judge(failure)
    assert verdict is Verdict.GIVE_UP
    assert tried == [(0, False), (0, True), (1, True), (2, True)]
    assert failure_reason(failure) == (
        Reason.device_oom,
        "2 GiB wanted (on a fresh worker, in batches of 6, 3, 1)",
    )
    other = scheduler.lease(0)
    assert (other.group, other.halvings, scheduler.needs_fresh_worker(other)) == ("b", 0, False)


def test_want_of_memory_and_other_failures_are_counted_apart():
    scheduler = _scheduler(("a", "x", 1), batch_size=8)
    for _ in range(3):
        assert scheduler.judge(Failed(scheduler.lease(0), Reason.host_oom, "")) is Verdict.RETRY
    verdicts = [scheduler.judge(Failed(scheduler.lease(0), Reason.sampling_error, "")) for _ in range(ATTEMPTS)]
    assert verdicts == [Verdict.RETRY, Verdict.RETRY, Verdict.GIVE_UP]


def test_a_generator_that_never_fits_is_not_tried_unit_by_unit():
    scheduler = _scheduler(("huge", "x", 9), ("good", "y", 1), batch_size=1)
    while (task := scheduler.lease(0)).group == "huge":
        scheduler.judge(Failed(task, Reason.device_oom, ""))
    assert task.group == "good"
    foregone = scheduler.take_foregone()
    assert len(foregone) == 9 - LOST_UNITS
    assert {failed.reason for failed in foregone} == {Reason.device_oom}


def test_a_model_that_crashes_whenever_it_loads_costs_four_workers_and_holds_up_nobody():
    scheduler = _scheduler(("bad", "x", 50), ("good", "y", 3))
    died, order, given_up = 0, [], 0
    while (task := scheduler.lease(0)) is not None:
        order.append(task.group)
        if task.group == "bad":
            died += 1
            given_up += scheduler.judge(Died(task, SIGSEGV)) is Verdict.GIVE_UP
        else:
            scheduler.judge(Done(task, 0.0, "host"))
    assert order == ["bad"] * 2 + ["good"] * 3 + ["bad"] * 2
    assert given_up == LOST_UNITS
    foregone = scheduler.take_foregone()
    assert {(failed.task.group, failed.reason) for failed in foregone} == {("bad", Reason.worker_signal)}
    assert len(foregone) + given_up == 50
    assert scheduler.finished


@pytest.mark.parametrize("survives", ["the final pass", "the next unit"])
def test_a_generator_goes_on_when_one_of_its_units_survives(survives):
    scheduler = _scheduler(("bad", "x", 5), ("good", "y", 1))
    unit = None
    while (task := scheduler.lease(0)) is not None:
        unit = unit or task.id
        dies = task.id == unit and not (task.final_pass and survives == "the final pass")
        scheduler.judge(Died(task, SIGSEGV) if dies else Done(task, 0.0, "host"))
    assert scheduler.take_foregone() == []
    assert scheduler.finished


def test_a_generator_that_has_worked_is_not_suspended_for_one_bad_unit():
    scheduler = _scheduler(("a", "x", 3), ("b", "y", 1))
    scheduler.judge(Done(scheduler.lease(0), 0.0, "host"))
    for _ in range(FATAL_DEATHS):
        bad = scheduler.lease(0)
        scheduler.judge(Died(bad, SIGABRT))
    assert [scheduler.lease(0).group for _ in range(2)] == ["a", "b"]
    assert [task.id for task in scheduler.take_quarantined()] == [bad.id]


def test_units_are_planned_only_when_a_worker_is_free():
    planned = []

    def plan():
        for task in _tasks("a", 100):
            planned.append(task.id)
            yield task

    scheduler = Scheduler([TaskGroup("a", "a", plan(), 100)], ATTEMPTS)
    scheduler.lease(0)
    scheduler.lease(1)
    assert len(planned) == 2


def test_a_failure_that_may_pass_is_tried_again_up_to_the_limit_and_one_that_cannot_is_not():
    scheduler = _scheduler(("a", "a", 1))
    verdicts = []
    for _ in range(ATTEMPTS):
        verdicts.append(scheduler.judge(Failed(scheduler.lease(0), Reason.download_failed, "")))
    assert verdicts == [Verdict.RETRY, Verdict.RETRY, Verdict.GIVE_UP]
    assert scheduler.lease(0) is None
    assert scheduler.finished
    scheduler = _scheduler(("a", "a", 1))
    assert scheduler.judge(Failed(scheduler.lease(0), Reason.corrupt_weights, "")) is Verdict.GIVE_UP


@pytest.mark.parametrize("reason", [Reason.corrupt_weights, Reason.repo_not_found, Reason.download_timeout])
def test_a_generator_that_cannot_be_had_is_given_up_whole_without_trying_each_unit(reason):
    scheduler = _scheduler(("bad", "x", 5), ("good", "y", 2))
    for _ in range(ATTEMPTS if reason.retryable else 1):
        verdict = scheduler.judge(Failed(scheduler.lease(0), reason, "why"))
    assert verdict is Verdict.GIVE_UP
    leased = []
    while (task := scheduler.lease(0)) is not None:
        leased.append(task.group)
        scheduler.judge(Done(task, 0.0, "host"))
    assert leased == ["good", "good"]
    assert not scheduler.finished, "the foregone units are still to be committed"
    foregone = scheduler.take_foregone()
    assert [(failed.task.group, failed.reason, failed.detail) for failed in foregone] == [("bad", reason, "why")] * 4
    assert scheduler.finished


def test_a_unit_that_fails_while_sampling_does_not_speak_for_its_generator():
    scheduler = _scheduler(("a", "x", 2))
    for _ in range(ATTEMPTS):
        scheduler.judge(Failed(scheduler.lease(0), Reason.sampling_error, ""))
    assert scheduler.lease(0) is not None


@pytest.mark.parametrize(("signal", "deaths"), [(SIGSEGV, FATAL_DEATHS), (SIGKILL, OTHER_DEATHS), (0, OTHER_DEATHS)])
def test_a_unit_that_kills_workers_is_quarantined_and_gets_one_final_pass_alone(signal, deaths):
    scheduler = _scheduler(("bad", "x", 1), ("good", "y", 1))
    bad = scheduler.lease(0)
    good = scheduler.lease(1)
    for death in range(1, deaths + 1):
        assert scheduler.judge(Died(bad, signal)) is Verdict.RETRY
        assert (bad.id in scheduler.quarantined) == (death == deaths)
        alone = death == deaths or (signal != SIGSEGV and death == deaths - 1)
        if alone and good is not None:
            assert scheduler.lease(0) is None, "it waits until nothing else runs"
            scheduler.judge(Done(good, 0.0, "host"))
            good = None
        bad = scheduler.lease(0)
        assert scheduler.needs_fresh_worker(bad) == alone
    assert scheduler.judge(Died(bad, signal)) is Verdict.GIVE_UP
    assert scheduler.finished
    expected = Reason.worker_signal if signal == SIGSEGV else Reason.quarantined
    assert failure_reason(Died(bad, signal))[0] is expected


def test_a_final_pass_that_fails_and_may_pass_is_alone_the_next_time_too():
    scheduler = _scheduler(("bad", "x", 3))
    for _ in range(FATAL_DEATHS):
        bad = scheduler.lease(0)
        scheduler.judge(Died(bad, SIGSEGV))
    assert scheduler.judge(Failed(scheduler.lease(0), Reason.sampling_error, "")) is Verdict.RETRY
    others = [scheduler.lease(0), scheduler.lease(1)]
    assert bad.id not in {task.id for task in others}
    assert scheduler.lease(2) is None, "it waits until nothing else runs"
    for other in others:
        scheduler.judge(Done(other, 0.0, "host"))
    again = scheduler.lease(0)
    assert again.id == bad.id and again.final_pass and scheduler.needs_fresh_worker(again)
    scheduler.judge(Done(again, 0.0, "host"))
    assert scheduler.finished


OUTCOMES = ("done", "done", "done", "done", "oom", "broken", "passing", "segfault", "killed")


def _outcome(kind: str, task: Task) -> Done | Failed | Died:
    if kind == "done":
        return Done(task, 0.0, "host")
    if kind in ("segfault", "killed"):
        return Died(task, SIGSEGV if kind == "segfault" else SIGKILL)
    reasons = {"oom": Reason.device_oom, "broken": Reason.corrupt_weights, "passing": Reason.sampling_error}
    return Failed(task, reasons[kind], "")


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 30) | st.integers(0, 4), min_size=1, max_size=8),
    workers=st.integers(1, 5),
    prefetch=st.integers(0, 3),
    batch_size=st.sampled_from([1, 4]),
    data=st.data(),
)
def test_every_task_ends_exactly_once_and_nobody_idles_whatever_happens(sizes, workers, prefetch, batch_size, data):
    groups = [(f"g{n}", f"f{n % 2}", size) for n, size in enumerate(sizes)]
    scheduler = _scheduler(*groups, prefetch=prefetch, batch_size=batch_size)
    bad = data.draw(st.sets(st.sampled_from([name for name, _, _ in groups])), label="generators that go wrong")
    running: dict[int, Task] = {}
    promised: dict[int, set[str]] = {}
    ended: list[str] = []
    left = sum(sizes)
    for _ in range(100_000):
        if scheduler.finished:
            break
        for worker in range(workers):
            if worker not in running and (task := scheduler.lease(worker)) is not None:
                running[worker] = task
                promised[worker] = {spec.name for spec in task.upcoming}
                assert len(promised[worker]) <= prefetch
        assert scheduler.running == len(running)
        foregone = scheduler.take_foregone()
        ended.extend(failed.task.id for failed in foregone)
        left -= len(foregone)
        waiting = left - len(running)
        if len(running) < workers and waiting:
            # The only work that may wait while somebody is free: last chances, which nobody else may disturb, and
            # what failed on those who are free, and shall be tried by another.
            assert running, "nothing runs, and nobody is given what is left"
            assert (
                scheduler.quarantined
                or scheduler._again
                or any(task.attempt >= OTHER_DEATHS for task in running.values())
                or any(count == OTHER_DEATHS - 1 for count in _deaths(scheduler))
            )
        if not running:
            continue
        worker = data.draw(st.sampled_from(sorted(running)))
        task = running.pop(worker)
        kind = data.draw(st.sampled_from(OUTCOMES)) if task.group in bad else "done"
        if scheduler.judge(_outcome(kind, task)) is not Verdict.RETRY:
            ended.append(task.id)
            left -= 1
    assert len(ended) == len(set(ended)) == sum(sizes)


def _deaths(scheduler: Scheduler) -> list[int]:
    return [deaths.other for deaths in scheduler._deaths._deaths.values()]


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(1, 5), min_size=6, max_size=20), prefetch=st.integers(1, 3), data=st.data())
def test_what_was_promised_to_one_is_not_promised_to_another(sizes, prefetch, data):
    workers = 3
    groups = [(f"g{n}", f"f{n % 2}", size) for n, size in enumerate(sizes)]
    scheduler = _scheduler(*groups, prefetch=prefetch)
    promised: dict[int, set[str]] = {worker: set() for worker in range(workers)}
    opened: dict[str, int] = {}
    running: dict[int, Task] = {}
    while not scheduler.finished:
        for worker in range(workers):
            if worker in running or (task := scheduler.lease(worker)) is None:
                continue
            if task.group not in opened and len(opened) + sum(map(len, promised.values())) < len(sizes):
                others = set().union(*(promised[other] for other in promised if other != worker))
                assert task.group not in others, "stolen while there was an untouched one"
            opened[task.group] = worker
            running[worker] = task
            promised[worker] = {spec.name for spec in task.upcoming}
            for names in promised.values():
                names -= opened.keys()
        assert sum(map(len, promised.values())) == len(set().union(*promised.values()))
        if running:
            done = running.pop(data.draw(st.sampled_from(sorted(running))))
            scheduler.judge(Done(done, 0.0, "host"))
