"""Who gets what next, and what a failure leads to. Pure state: no clock, no files, no processes.

Leasing is family-affine: a worker goes on with its generator, then takes an untouched generator of the same family,
then any untouched one, and only then helps with a generator that others hold. Every choice is O(1), amortised, in
the number of generators.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from signal import SIGABRT, SIGBUS, SIGSEGV

from pipeline.tasks import Died, Done, Failed, Task
from shards.statuses import Reason, Retry, Status

FATAL_SIGNALS = frozenset({SIGSEGV, SIGABRT, SIGBUS})
"""Signals that a model's own fault raises: two of them quarantine a unit."""
FATAL_DEATHS = 2
"""Deaths by such a signal that quarantine a unit."""
OTHER_DEATHS = 5
"""Deaths of any other kind (SIGKILL, a lost node) that quarantine a unit; the last of them happened alone."""
OF_THE_GENERATOR = frozenset(
    reason
    for reason in Reason
    if reason.status in (Status.load_failed, Status.gone, Status.gated, Status.unsupported)
    or reason is Reason.download_timeout
)
"""Failures before the first image is sampled. They are the generator's, not the unit's: once one of its units is given
up for such a reason, its other units are too, without waiting for the same download again and again."""


class Verdict(Enum):
    """What becomes of an outcome."""

    COMMIT = "commit"
    RETRY = "retry"
    GIVE_UP = "give up"


@dataclass
class _Trouble:
    fatal: int = 0
    other: int = 0
    final_pass: bool = False


@dataclass
class _Group:
    name: str
    family: str
    tasks: Iterator[Task]


class Scheduler:
    """Leases tasks to workers and judges outcomes.

    `groups` yields (group, family, tasks); `tasks` is drawn from only when a worker is free, so plans of a million
    units cost memory only for what is running.
    """

    def __init__(self, groups: Iterable[tuple[str, str, Iterator[Task]]], attempts: int) -> None:
        self._attempts = attempts
        self._untouched: dict[str, _Group] = {}
        self._by_family: dict[str, deque[str]] = {}
        for name, family, tasks in groups:
            self._untouched[name] = _Group(name, family, tasks)
            self._by_family.setdefault(family, deque()).append(name)
        self._open: dict[str, _Group] = {}
        self._again: deque[Task] = deque()
        self._alone: deque[Task] = deque()
        self._trouble: dict[str, _Trouble] = {}
        self._last: dict[int, _Group] = {}
        self._doomed: dict[str, Failed] = {}
        self._foregone: list[Failed] = []
        self.running = 0
        self.quarantined: set[str] = set()

    def lease(self, worker: int) -> Task | None:
        """Return the worker's next task, or None when nothing is left to hand out now."""
        while (task := self._choose(worker)) is not None:
            doom = self._doomed.get(task.group)
            if doom is None:
                self.running += 1
                return task
            self._foregone.append(Failed(task, doom.reason, doom.detail))
        return None

    def take_foregone(self) -> list[Failed]:
        """Return the tasks that `lease` passed over since the last call, because their generator cannot be had."""
        foregone, self._foregone = self._foregone, []
        return foregone

    def needs_fresh_worker(self, task: Task) -> bool:
        """Tell whether a task must start on a worker that has run nothing: its last chances should be fair ones."""
        trouble = self._trouble.get(task.id)
        return trouble is not None and (trouble.final_pass or trouble.other == OTHER_DEATHS - 1)

    @property
    def finished(self) -> bool:
        """Nothing runs and nothing is left."""
        return not (self.running or self._untouched or self._open or self._again or self._alone or self._foregone)

    def judge(self, outcome: Done | Failed | Died) -> Verdict:
        """Take back a task and say what to do with its outcome."""
        self.running -= 1
        if isinstance(outcome, Done):
            self._trouble.pop(outcome.task.id, None)
            return Verdict.COMMIT
        if isinstance(outcome, Failed):
            return self._judge_failure(outcome)
        return self._judge_death(outcome)

    def _judge_failure(self, failure: Failed) -> Verdict:
        if failure.reason.retry is Retry.retry and failure.task.attempt < self._attempts:
            self._again.append(replace(failure.task, attempt=failure.task.attempt + 1))
            return Verdict.RETRY
        if failure.reason in OF_THE_GENERATOR:
            self._doomed[failure.task.group] = failure
        return Verdict.GIVE_UP

    def _judge_death(self, death: Died) -> Verdict:
        trouble = self._trouble.setdefault(death.task.id, _Trouble())
        if trouble.final_pass:
            return Verdict.GIVE_UP
        if death.signal in FATAL_SIGNALS:
            trouble.fatal += 1
        else:
            trouble.other += 1
        again = replace(death.task, attempt=death.task.attempt + 1)
        if trouble.fatal >= FATAL_DEATHS or trouble.other >= OTHER_DEATHS:
            trouble.final_pass = True
            self.quarantined.add(death.task.id)
            self._alone.append(again)
        elif trouble.other == OTHER_DEATHS - 1:
            self._alone.append(again)
        else:
            self._again.append(again)
        return Verdict.RETRY

    def _choose(self, worker: int) -> Task | None:
        last = self._last.get(worker)
        if last is not None and self._again and self._again[0].group == last.name:
            return self._again.popleft()  # before its next unit, so that a generator that cannot be had is soon known
        if last is not None and (task := self._draw(last)) is not None:
            return task
        if self._again:
            return self._again.popleft()
        for group in self._candidates(last):
            if (task := self._draw(group)) is not None:
                self._last[worker] = group
                return task
        if self._alone and self.running == 0:
            return self._alone.popleft()
        return None

    def _candidates(self, last: _Group | None) -> Iterator[_Group]:
        if last is not None:
            names = self._by_family.get(last.family, deque())
            while names:
                if (group := self._touch(names.popleft())) is not None:
                    yield group
        while self._untouched:
            if (group := self._touch(next(iter(self._untouched)))) is not None:
                yield group
        while self._open:
            yield next(iter(self._open.values()))

    def _touch(self, name: str) -> _Group | None:
        group = self._untouched.pop(name, None)
        if group is not None:
            self._open[name] = group
        return group

    def _draw(self, group: _Group) -> Task | None:
        task = next(group.tasks, None)
        if task is None:
            self._open.pop(group.name, None)
        return task


def failure_reason(outcome: Failed | Died) -> tuple[Reason, str]:
    """Return the reason and detail that rows of a given-up task carry."""
    if isinstance(outcome, Failed):
        return outcome.reason, outcome.detail
    if outcome.signal in FATAL_SIGNALS:
        return Reason.worker_signal, f"the worker died by signal {outcome.signal} on every try, the last one alone"
    return Reason.quarantined, "workers died under it too often, the last one fresh and alone"
