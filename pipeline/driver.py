"""The driver's loop: lease, wait, judge, commit. The run lock is held while it runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from manifests.errors import InputError
from pipeline.events import EventLog
from pipeline.executors.base import Executor
from pipeline.interruption import Interrupted, termination_as_interrupt
from pipeline.scheduler import Scheduler, Verdict, failure_reason
from pipeline.tasks import Bug, Died, Done, Failed


@dataclass
class Tally:
    """What one pass over the tasks came to."""

    done: int = 0
    given_up: int = 0
    retried: int = 0
    quarantined: set[str] = field(default_factory=set)


OnDone = Callable[[Done], None]
OnGivenUp = Callable[[Failed | Died], None]


def drive(scheduler: Scheduler, executor: Executor, events: EventLog, on_done: OnDone, on_given_up: OnGivenUp) -> Tally:
    """Run every task of the scheduler to its end.

    `on_done` and `on_given_up` commit; they run here, one at a time.

    Raises:
        InputError: a worker met a user's mistake.
        Interrupted: by Ctrl-C or SIGTERM, after the executor was closed.
        RuntimeError: a worker met a bug of ours; the message is its traceback.
    """
    tally = Tally(quarantined=scheduler.quarantined)
    try:
        with termination_as_interrupt():
            while not scheduler.finished:
                idle = executor.idle()
                _lease(scheduler, executor, idle, events)
                for foregone in scheduler.take_foregone():
                    _settle(Verdict.GIVE_UP, foregone, tally, events, on_done, on_given_up)
                _tell_quarantined(scheduler, events)
                if scheduler.running == 0 and idle:
                    continue
                if (ended := executor.wait()) is None:
                    continue  # a worker came up
                _, outcome = ended
                if isinstance(outcome, InputError):
                    raise outcome
                if isinstance(outcome, Bug):
                    raise RuntimeError(f"in a worker:\n{outcome.traceback}")
                _settle(scheduler.judge(outcome), outcome, tally, events, on_done, on_given_up)
                _tell_quarantined(scheduler, events)
    except KeyboardInterrupt as interrupt:
        executor.close()
        events.write("interrupted")
        raise Interrupted from interrupt
    scheduler.finish()
    return tally


def _lease(scheduler: Scheduler, executor: Executor, idle: Sequence[int], events: EventLog) -> None:
    for worker in idle:
        task = scheduler.lease(worker)
        if task is None:
            return
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
