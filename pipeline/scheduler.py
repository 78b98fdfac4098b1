"""Who gets what next, and what a failure leads to. Pure state but for the log of deaths: no clock, no processes.

* A failure that may pass is tried again, `attempts` times in all, on another worker if there is one. Once its
  generator has worked, any failure may pass: it may be the worker's, or its machine's.
* Want of memory: the same unit on a fresh worker, then with its batches halved, down to batches of one.
* A death: by a signal that native code brings on itself twice, or in any other way five times (the fifth alone, on a
  fresh worker), and the unit is quarantined. When everything else is done, it gets one final pass, alone.
* A generator of which no unit was done yet waits with its first quarantined unit, and goes on when a unit of it
  survives; when two units were lost it is given up whole. So a model that crashes at loading costs four workers in all.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from manifests.unit import UnitSpec
from pipeline.blame import BEFORE_THE_FIRST_IMAGE, LOST_UNITS, THE_HUBS_WORD, Blame
from pipeline.deaths import FATAL_SIGNALS, DeathLog
from pipeline.second_tries import SecondTries
from pipeline.tasks import Died, Done, Failed, Task, Verdict
from pipeline.work_queue import TaskGroup, WorkQueue
from shards.statuses import Reason, Retry, Status


class Scheduler:
    """Leases tasks to workers and judges outcomes.

    Args:
        groups: the work, by generator; tasks are drawn from only when a worker is free, so plans of a million units
            cost memory only for what is running.
        attempts: tries of a unit that fails in a way that may pass.
        prefetch: generators that a worker is told of before it needs them.
        deaths: how workers died under units so far; by default nothing is known and nothing is kept.
        worked: generators of which units were done in earlier runs.
        excuse: asked about every failed download; True if it was not the generator's fault: then it does not count.
    """

    def __init__(
        self,
        groups: Iterable[TaskGroup],
        attempts: int,
        *,
        prefetch: int = 0,
        deaths: DeathLog | None = None,
        worked: Collection[str] = (),
        excuse: Callable[[Failed], bool] = lambda failure: False,
    ) -> None:
        self._attempts = attempts
        self._queue = WorkQueue(groups, prefetch)
        self._deaths = deaths or DeathLog()
        self._at: dict[int, str] = {}
        self._again = SecondTries()
        self._alone: deque[Task] = deque()
        self._fresh: set[str] = set()
        self._failures: dict[str, int] = {}
        self._leased_to: dict[str, int] = {}
        self._blame = Blame(worked)
        self._excuse = excuse
        self._foregone: list[Failed | Died] = []
        self._newly_quarantined: list[Task] = []
        self.running = 0
        self.quarantined: set[str] = set()

    def lease(self, worker: int) -> Task | None:
        """Return the worker's next task, or None when nothing is left to hand out now."""
        while (task := self._choose(worker)) is not None:
            if (known := self._blame.verdict(task.group)) is not None:
                self._foregone.append(Failed(task, *known))
            elif task.attempt > 1 or task.final_pass or self._unburdened(task):
                self.running += 1
                self._at[worker] = task.group
                self._leased_to[task.id] = worker
                upcoming = self._queue.upcoming(worker)
                return replace(task, upcoming=upcoming) if upcoming else task
        return None

    def take_foregone(self) -> list[Failed | Died]:
        """Return the tasks that `lease` passed over since the last call: their generator cannot be had, or they killed
        too many workers under an earlier driver."""
        foregone, self._foregone = self._foregone, []
        return foregone

    def take_quarantined(self) -> list[Task]:
        """Return the tasks that were quarantined since the last call."""
        quarantined, self._newly_quarantined = self._newly_quarantined, []
        return quarantined

    def needs_fresh_worker(self, task: Task) -> bool:
        """Tell whether a task must start on a worker that has run nothing: its last chances should be fair ones."""
        return task.final_pass or task.id in self._fresh

    @property
    def finished(self) -> bool:
        """Nothing runs and nothing is left."""
        return self._queue.empty and not (self.running or self._again or self._alone or self._foregone)

    def judge(self, outcome: Done | Failed | Died) -> Verdict:
        """Take back a task and say what to do with its outcome."""
        self.running -= 1
        task = outcome.task
        worker = self._leased_to.pop(task.id)
        if isinstance(outcome, Died):
            verdict = self._judge_death(outcome)
        elif isinstance(outcome, Failed):
            self._queue.resume(task.group)  # a worker survived it
            verdict = self._judge_failure(outcome, worker)
        else:
            self._queue.resume(task.group)
            self._blame.done(task.group, worker, outcome.host)
            verdict = Verdict.COMMIT
        if verdict is not Verdict.RETRY:
            self._failures.pop(task.id, None)
            self._again.forget(task)
            self._fresh.discard(task.id)
            if not isinstance(outcome, Died):
                self._deaths.end(task, lost=False)
        return verdict

    def finish(self) -> None:
        """Forget the deaths: every unit came to its end."""
        self._deaths.forget()

    def put_back(self, task: Task) -> None:
        """Take back a task that its worker refused for reasons of its own; it counts for nothing."""
        self.running -= 1
        self._again.add(task, self._leased_to.pop(task.id))

    def suspicious(self, worker: int) -> bool:
        """Whether a worker fails whatever it is given, of which nothing else is known to fail."""
        return self._blame.suspicious(worker)

    def dismiss(self, worker: int) -> None:
        """Let what failed on this worker count for nothing."""
        self._blame.dismiss(worker)
        for task_id in self._again.failed_at(worker):
            self._failures.pop(task_id, None)

    def _judge_failure(self, failure: Failed, worker: int) -> Verdict:
        task, reason = failure.task, failure.reason
        if reason.status is Status.oom and isinstance(task.work, UnitSpec):
            return self._judge_memory(failure, task.work.batch_size)
        if reason in (Reason.download_failed, Reason.download_timeout) and self._excuse(failure):
            self._try_again(task)
            return Verdict.RETRY
        self._failures[task.id] = failures = self._failures.get(task.id, 0) + 1
        worked = self._blame.worked(task.group)
        credible = self._blame.failed(task.group, worker, failure.host, self._at) or len(self._at) <= 1
        may_pass = worked or not credible or reason.retry is Retry.retry
        most = self._attempts if credible else 2 * self._attempts
        if failures < most and may_pass and reason not in THE_HUBS_WORD:
            self._try_again(task, worker)
            if not worked and reason in BEFORE_THE_FIRST_IMAGE:
                self._queue.suspend(task.group)  # its other units would go the same way
            return Verdict.RETRY
        if credible or reason in THE_HUBS_WORD:
            self._blame.lost(task.group, reason, failure.detail)
        return Verdict.GIVE_UP

    def _judge_memory(self, failure: Failed, batch_size: int) -> Verdict:
        task = failure.task
        if task.id not in self._fresh and not task.final_pass:
            self._fresh.add(task.id)
            self._try_again(task)
            return Verdict.RETRY
        if batch_size >> task.halvings > 1:
            self._try_again(replace(task, halvings=task.halvings + 1))
            return Verdict.RETRY
        self._blame.lost(task.group, failure.reason, failure.detail)
        return Verdict.GIVE_UP

    def _judge_death(self, death: Died) -> Verdict:
        task = death.task
        deaths = self._deaths.add(task, death.signal)
        if task.final_pass:
            self._lose(task, fatal=death.signal in FATAL_SIGNALS)
            return Verdict.GIVE_UP
        if deaths.deadly:
            self._quarantine(replace(task, attempt=task.attempt + 1))
        elif deaths.next_alone:
            self._fresh.add(task.id)
            self._alone.append(replace(task, attempt=task.attempt + 1))
        else:
            self._try_again(task)
        return Verdict.RETRY

    def _try_again(self, task: Task, failed_at: int | None = None) -> None:
        again = replace(task, attempt=task.attempt + 1)
        if task.final_pass:
            self._alone.append(again)
        else:
            self._again.add(again, failed_at)

    def _quarantine(self, task: Task) -> None:
        self.quarantined.add(task.id)
        self._newly_quarantined.append(task)
        self._alone.append(replace(task, final_pass=True))
        if not self._blame.worked(task.group):
            self._queue.suspend(task.group)

    def _lose(self, task: Task, *, fatal: bool) -> None:
        """Count a unit that is given up for its deaths; its generator stays suspended until a unit survives."""
        self._deaths.end(task, lost=True)
        if self._blame.worked(task.group):
            return
        if self._deaths.lost(task) < LOST_UNITS:
            self._queue.suspend(task.group)
            return
        detail = f"not tried: workers died under {LOST_UNITS} units of this generator, and none was done"
        self._blame.condemn(task.group, Reason.worker_signal if fatal else Reason.quarantined, detail)
        self._queue.resume(task.group)

    def _unburdened(self, task: Task) -> bool:
        """Tell whether a task that was never leased by this driver may run now; else put it where it belongs."""
        deaths = self._deaths.of(task)
        if deaths is not None and deaths.hopeless:
            self._foregone.append(Died(task, deaths.last))
            self._lose(task, fatal=deaths.fatal > 0)
        elif deaths is not None and deaths.deadly:
            self._quarantine(task)
        elif deaths is not None and deaths.next_alone and task.id not in self._fresh:
            self._fresh.add(task.id)
            self._alone.append(task)
        elif not self._blame.worked(task.group) and self._deaths.lost(task):
            self._alone.append(replace(task, final_pass=True))
            self._queue.suspend(task.group)
        else:
            return True
        return False

    def _choose(self, worker: int) -> Task | None:
        group = self._at.get(worker)
        alone = len(self._at) <= 1
        # Before its next unit, so that a generator that cannot be had is soon known.
        if group is not None and (task := self._again.take([group], worker, anyone=alone)) is not None:
            return task
        if (task := self._queue.own(worker)) is not None:
            return task
        if (task := self._again.take(self._again.groups, worker, anyone=alone)) is not None:
            return task
        if (task := self._queue.other(worker)) is not None:
            return task
        if self.running:
            return None
        if (task := self._again.take(self._again.groups, worker, anyone=True)) is not None:
            return task  # it failed here before; but there is nobody else to take it
        if self._alone:
            return self._alone.popleft()
        # Of a suspended generator, one unit at a time: whether another of its units survives.
        probe = self._queue.draw_suspended()
        return replace(probe, final_pass=True) if probe is not None else None
