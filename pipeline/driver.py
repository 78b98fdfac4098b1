"""The driver's loop: lease, wait, judge, commit. The run lock is held while it runs."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from manifests.errors import InputError
from manifests.unit import UnitSpec
from pipeline.bench import BENCHED_SECONDS, Bench
from pipeline.events import EventLog
from pipeline.executors.base import Executor
from pipeline.given_up import failure_reason
from pipeline.interruption import HubOutage, Interrupted, NotFetched, termination_as_interrupt
from pipeline.progress import say
from pipeline.scheduler import Scheduler
from pipeline.tasks import Bug, Died, Done, Failed, Task, Verdict
from shards.statuses import Reason

BUGS_THAT_STOP = 5
"""Generators that met a bug of ours one after the other, with no unit done between: then the next ones would too."""

SETBACKS = 3
"""Times that a worker may have had no answer from the hub, one after the other; then the trouble is its machine's."""


@dataclass
class Tally:
    """What one pass over the tasks came to.

    Attributes:
        bugs: tracebacks of what nobody foresaw, of units that were given up for it.
    """

    done: int = 0
    given_up: int = 0
    retried: int = 0
    quarantined: set[str] = field(default_factory=set)
    bugs: list[str] = field(default_factory=list)


OnDone = Callable[[Done], None]
OnGivenUp = Callable[[Failed | Died], None]


def drive(
    scheduler: Scheduler,
    executor: Executor,
    events: EventLog,
    on_done: OnDone,
    on_given_up: OnGivenUp,
    outlast: Callable[[], None] | None = None,
) -> Tally:
    """Run every task of the scheduler to its end.

    `on_done` and `on_given_up` commit; they run here, one at a time. A worker that refuses for reasons of its machine,
    such as a full disk, is left alone for a while, and so is one where everything fails; the others go on. What nobody
    foresaw ends a unit, not the run.

    Args:
        outlast: waits until the hub answers, when a worker had no answer; raises HubOutage when that takes too long.
            By default nothing is waited for.

    Raises:
        InputError: every worker that is up refuses; the last one's reason.
        Stopped: the hub answers no worker that is up, or the device of one in this process is lost.
        Interrupted: by Ctrl-C or SIGTERM, after the executor was closed.
        RuntimeError: workers meet nothing but bugs of ours; the message is the last one's traceback.
    """
    tally = Tally(quarantined=scheduler.quarantined)
    bench = Bench()
    at_work: dict[int, Task] = {}
    odd: set[str] = set()
    setbacks: Counter[int] = Counter()
    try:
        with termination_as_interrupt():
            while not scheduler.finished:
                next_pardon = bench.pardon()
                idle = [worker for worker in executor.idle() if worker not in bench]
                _lease(scheduler, executor, idle, events, at_work)
                for foregone in scheduler.take_foregone():
                    _settle(Verdict.GIVE_UP, foregone, tally, events, on_done, on_given_up)
                _tell_quarantined(scheduler, events)
                if scheduler.running == 0 and idle:
                    continue
                if (ended := executor.wait(next_pardon)) is None:
                    continue  # a worker came up, or may have another chance
                worker, outcome = ended
                task = at_work.pop(worker)
                if isinstance(outcome, InputError):
                    scheduler.put_back(task)
                    if outlast is not None and _may_pass(outcome) and setbacks[worker] < SETBACKS:
                        setbacks[worker] += 1
                        _outlast(outlast, outcome)
                    else:
                        _refuse(worker, task, outcome, executor, bench, events)
                    continue
                setbacks.pop(worker, None)
                bug = outcome.traceback if isinstance(outcome, Bug) else None
                if isinstance(outcome, Bug):
                    odd.add(task.group)
                    outcome = _contain(task, outcome, len(odd), events)
                elif isinstance(outcome, Done):
                    odd.clear()
                verdict = scheduler.judge(outcome)
                if bug is not None and verdict is Verdict.GIVE_UP:
                    tally.bugs.append(bug)
                _settle(verdict, outcome, tally, events, on_done, on_given_up)
                _tell_quarantined(scheduler, events)
                if scheduler.suspicious(worker) and any(other not in bench for other in executor.up() - {worker}):
                    _suspect(worker, task, scheduler, bench, events)
    except KeyboardInterrupt as interrupt:
        executor.close()
        events.write("interrupted")
        raise Interrupted from interrupt
    scheduler.finish()
    return tally


def _outlast(wait: Callable[[], None], refusal: InputError) -> None:
    try:
        wait()
    except HubOutage as outage:
        raise (refusal if isinstance(refusal, HubOutage) else outage) from None  # the worker's says what was wanted


def _may_pass(refusal: InputError) -> bool:
    return isinstance(refusal, HubOutage | NotFetched)


def _refuse(worker: int, task: Task, refusal: InputError, executor: Executor, bench: Bench, events: EventLog) -> None:
    bench.send(worker, refusal)
    events.write("benched", unit=task.id, group=task.group, worker=worker, detail=str(refusal))
    if (reason := bench.verdict(executor.up(), executor.starting())) is not None:
        raise reason
    say(f"workers: worker {worker} gets no work for {BENCHED_SECONDS:g} s: {refusal}")


def _suspect(worker: int, task: Task, scheduler: Scheduler, bench: Bench, events: EventLog) -> None:
    scheduler.dismiss(worker)
    bench.send(worker)
    why = "one generator after the other fails there, and nowhere else"
    events.write("benched", unit=task.id, group=task.group, worker=worker, detail=why)
    say(f"workers: worker {worker} gets no work for {BENCHED_SECONDS:g} s: {why}; look at its machine")


def _contain(task: Task, bug: Bug, generators: int, events: EventLog) -> Failed:
    events.write("bug", unit=task.id, group=task.group, traceback=bug.traceback)
    if generators >= BUGS_THAT_STOP or not isinstance(task.work, UnitSpec):
        raise RuntimeError(f"in a worker:\n{bug.traceback}")
    return Failed(task, Reason.internal_error, bug.traceback.strip().splitlines()[-1], log_tail=bug.traceback)


def _lease(
    scheduler: Scheduler, executor: Executor, idle: Sequence[int], events: EventLog, at_work: dict[int, Task]
) -> None:
    for worker in idle:
        task = scheduler.lease(worker)
        if task is None:
            continue  # what is left may be for others: it failed here
        at_work[worker] = task
        events.write("leased", unit=task.id, group=task.group, worker=worker, attempt=task.attempt)
        executor.submit(worker, task, fresh=scheduler.needs_fresh_worker(task))


def _tell_quarantined(scheduler: Scheduler, events: EventLog) -> None:
    for task in scheduler.take_quarantined():
        events.write("quarantined", unit=task.id, group=task.group, attempt=task.attempt)


def _settle(
    verdict: Verdict,
    outcome: Done | Failed | Died,
    tally: Tally,
    events: EventLog,
    on_done: OnDone,
    on_given_up: OnGivenUp,
) -> None:
    if isinstance(outcome, Done):
        on_done(outcome)
        tally.done += 1
        told = {"seconds": round(outcome.seconds, 3), "usage": vars(outcome.usage)}
        events.write("done", unit=outcome.task.id, group=outcome.task.group, **told)
        return
    reason, detail = failure_reason(outcome)
    if isinstance(outcome, Died):
        detail = f"worker died, signal {outcome.signal or 'unknown'}: {outcome.log_tail[-500:]}"
    fields: dict[str, Any] = {
        "unit": outcome.task.id,
        "group": outcome.task.group,
        "reason": str(reason),
        "detail": detail,
    }
    fields |= {"signal": outcome.signal} if isinstance(outcome, Died) else {"usage": vars(outcome.usage)}
    if verdict is Verdict.RETRY:
        tally.retried += 1
        events.write("retry", attempt=outcome.task.attempt, halvings=outcome.task.halvings, **fields)
        return
    on_given_up(outcome)
    tally.given_up += 1
    events.write("given_up", **fields)
