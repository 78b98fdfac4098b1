"""Whatever workers do, every task ends exactly once, and a unit that kills workers is set apart."""

from signal import SIGKILL, SIGSEGV

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.generator import GeneratorSpec
from manifests.unit import Draw, UnitSpec
from pipeline.scheduler import FATAL_DEATHS, OTHER_DEATHS, Scheduler, Verdict, failure_reason
from pipeline.tasks import Died, Done, Failed, Task
from shards.statuses import Reason

ATTEMPTS = 3


def _tasks(generator: str, units: int, family: str = "family") -> list[Task]:
    spec = GeneratorSpec(name=generator, kind="unconditional", repo_id=f"owner/{generator}", family=family)
    draw = Draw(index=0, seed=1, prompt_id="p", prompt="", prompt_source="unconditional")
    return [
        Task(UnitSpec(generator=spec, first=number, count=1, draws=(draw,), batch_size=1, cpu_threads=1))
        for number in range(units)
    ]


def _scheduler(*groups: tuple[str, str, int]) -> Scheduler:
    return Scheduler(((name, family, iter(_tasks(name, units, family))) for name, family, units in groups), ATTEMPTS)


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


def test_units_are_planned_only_when_a_worker_is_free():
    planned = []

    def plan():
        for task in _tasks("a", 100):
            planned.append(task.id)
            yield task

    scheduler = Scheduler([("a", "a", plan())], ATTEMPTS)
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
        scheduler.judge(Failed(scheduler.lease(0), Reason.device_oom, ""))
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


@given(st.data())
def test_every_task_ends_exactly_once_whatever_happens(data):
    sizes = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
    workers = data.draw(st.integers(1, 3))
    scheduler = _scheduler(*((f"g{n}", f"f{n % 2}", size) for n, size in enumerate(sizes)))
    running: dict[int, Task] = {}
    ended: list[str] = []
    steps = 0
    while not scheduler.finished:
        steps += 1
        assert steps < 1000, "the scheduler does not come to an end"
        for worker in range(workers):
            if worker not in running and (task := scheduler.lease(worker)) is not None:
                running[worker] = task
        assert scheduler.running == len(running)
        ended.extend(failed.task.id for failed in scheduler.take_foregone())
        if not running:
            continue
        worker = data.draw(st.sampled_from(sorted(running)))
        task = running.pop(worker)
        outcome = data.draw(
            st.sampled_from(
                [
                    Done(task, 0.0, "host"),
                    Done(task, 0.0, "host"),
                    Failed(task, Reason.device_oom, ""),
                    Failed(task, Reason.corrupt_weights, ""),
                    Died(task, SIGSEGV),
                    Died(task, SIGKILL),
                ]
            )
        )
        if scheduler.judge(outcome) is not Verdict.RETRY:
            ended.append(task.id)
    assert len(ended) == len(set(ended)) == sum(sizes)
