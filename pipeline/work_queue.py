"""Which generator a worker turns to next. Pure state: no clock, no files, no processes.

A worker goes on with its own generator. When that is handed out it takes, in this order, what it was promised; a
generator so big that it needs several workers; one of the same family that nobody has touched; any untouched one. When
none is untouched it takes what others were promised, and at last helps where most is left for each worker.

* **Promises.** A worker that draws near the end of its generator is promised the next ones, so that it can fetch them
  while it samples and no other fetches the same. A promise binds nobody for ever: it is broken as soon as a worker
  would otherwise have to help somebody, which costs one more loading of a model than keeping it would.
* **Big generators.** With n units in all and w workers, a worker's share is n / w. A generator of more than one share
  is opened before the others, by as many workers as it has shares, so that none is left for the end, when every
  worker would have to fetch and load it. Others are opened by size, and by rank where sizes are equal.

Every choice is O(1) or O(log workers), amortised, in the number of generators.
"""

import heapq
import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from manifests.generator import GeneratorSpec
from pipeline.tasks import Task


class TaskGroup(NamedTuple):
    """Tasks that share loaded models: a generator's units, in order.

    `tasks` is drawn from only when a worker is free; it gives exactly `units` tasks. `generator` is what a worker may
    fetch ahead; None when there is nothing to fetch, and then `name` is the tasks' own name of their group. Two groups
    may be of one generator.
    """

    name: str
    family: str
    tasks: Iterator[Task]
    units: int
    generator: GeneratorSpec | None = None


class _State(Enum):
    WAITING = auto()
    PROMISED = auto()
    OPEN = auto()
    SUSPENDED = auto()
    DRAINED = auto()


@dataclass(eq=False)
class _Group:
    name: str
    family: str
    tasks: Iterator[Task]
    generator: GeneratorSpec | None
    units: int
    left: int
    rank: int
    state: _State = _State.WAITING
    workers: int = 0

    def share(self) -> float:
        """What one more worker would find to do here, in units."""
        return self.left / (self.workers + 1)


class WorkQueue:
    """The units that were never handed out, by generator.

    Args:
        groups: all there is to do.
        promises: generators that a worker may be promised at a time.
    """

    def __init__(self, groups: Iterable[TaskGroup], promises: int) -> None:
        by_size = sorted((group for group in groups if group.units), key=lambda group: -group.units)
        self._groups = [
            _Group(group.name, group.family, group.tasks, group.generator, group.units, group.units, rank)
            for rank, group in enumerate(by_size)
        ]
        self._of_generator: dict[str, list[_Group]] = {}
        for group in self._groups:
            self._of_generator.setdefault(group.generator.name if group.generator else group.name, []).append(group)
        self._untouched = deque(self._groups)
        self._untouched_of: dict[str, deque[_Group]] = {}
        for group in self._groups:
            self._untouched_of.setdefault(group.family, deque()).append(group)
        self._units = sum(group.units for group in self._groups)
        self._promises = promises
        self._promised: dict[int, deque[_Group]] = {}
        self._all_promised: deque[_Group] = deque()
        self._open: dict[_Group, None] = {}
        self._to_help: list[tuple[float, int, _Group]] | None = None
        self._suspended: dict[_Group, None] = {}
        self._next_big = 0
        self._undrained = len(self._groups)
        self._at: dict[int, _Group | None] = {}

    @property
    def empty(self) -> bool:
        """Every unit was handed out, those of suspended generators too."""
        return self._undrained == 0

    def own(self, worker: int) -> Task | None:
        """Return the next unit of the generator that the worker is at."""
        group = self._at.get(worker)
        return self._draw(group) if group is not None and group.state is _State.OPEN else None

    def other(self, worker: int) -> Task | None:
        """Turn the worker to another generator and return its next unit; None when there is none for it."""
        if worker not in self._at:
            self._at[worker] = None
            self._next_big = 0  # a share is smaller now
        group = self._choose(worker)
        if group is None:
            return None
        self._move(worker, group)
        return self._draw(group)

    def upcoming(self, worker: int) -> tuple[GeneratorSpec, ...]:
        """Return what the worker is promised; near the end of its generator it is promised what it will need next."""
        promised = deque(group for group in self._promised.get(worker, ()) if group.state is _State.PROMISED)
        self._promised[worker] = promised
        group = self._at.get(worker)
        if group is not None and group.left <= group.workers:
            while len(promised) < self._promises and (following := self._first_untouched(group.family)) is not None:
                if following.generator is None:
                    break
                following.state = _State.PROMISED
                promised.append(following)
                self._all_promised.append(following)
        return tuple(group.generator for group in promised if group.generator is not None)

    def suspend(self, generator: str) -> None:
        """Hand out no more of this generator until it is resumed or drawn from by `draw_suspended`."""
        for group in self._of_generator[generator]:
            if group.state is not _State.DRAINED:
                self._open.pop(group, None)
                group.state = _State.SUSPENDED
                self._suspended[group] = None

    def resume(self, generator: str) -> None:
        """Hand out a suspended generator's units again; nothing happens when it is not suspended."""
        for group in self._of_generator[generator]:
            if group.state is _State.SUSPENDED:
                del self._suspended[group]
                self._open_up(group)

    def draw_suspended(self) -> Task | None:
        """Return the next unit of the generator that was suspended first, which stays suspended."""
        return self._draw(next(iter(self._suspended))) if self._suspended else None

    def _choose(self, worker: int) -> _Group | None:
        promised = self._promised.get(worker)
        while promised:
            if (group := promised.popleft()).state is _State.PROMISED:
                return group
        at = self._at[worker]
        untouched = self._first_untouched(at.family if at is not None else None)
        if untouched is not None:
            return self._big() or untouched
        return self._broken_promise() or self._most_to_help()

    def _big(self) -> _Group | None:
        share = self._units / len(self._at)
        while self._next_big < len(self._groups):
            group = self._groups[self._next_big]
            if group.units <= share:
                return None
            wanted = math.ceil(group.units / share)
            if group.state in (_State.WAITING, _State.OPEN) and group.workers < wanted:
                return group
            self._next_big += 1
        return None

    def _first_untouched(self, family: str | None) -> _Group | None:
        for queue in (self._untouched_of.get(family, deque()) if family is not None else deque(), self._untouched):
            while queue:
                if queue[0].state is _State.WAITING:
                    return queue[0]
                queue.popleft()
        return None

    def _broken_promise(self) -> _Group | None:
        while self._all_promised:
            group = self._all_promised.pop()  # the last one promised is the one whose turn comes last
            if group.state is _State.PROMISED:
                return group
        return None

    def _most_to_help(self) -> _Group | None:
        """Shares only shrink while a group is open, so an entry is at least as good as its group, and the first entry
        that is up to date is the best."""
        if self._to_help is None:
            self._to_help = [(-group.share(), group.rank, group) for group in self._open]
            heapq.heapify(self._to_help)
        while self._to_help:
            known, rank, group = self._to_help[0]
            if group.state is not _State.OPEN:
                heapq.heappop(self._to_help)
            elif -group.share() > known:
                heapq.heapreplace(self._to_help, (-group.share(), rank, group))
            else:
                return group
        return None

    def _move(self, worker: int, group: _Group) -> None:
        before = self._at[worker]
        if before is not None:
            before.workers -= 1
        self._at[worker] = group
        group.workers += 1
        if group.state is not _State.OPEN:
            self._open_up(group)

    def _open_up(self, group: _Group) -> None:
        group.state = _State.OPEN
        self._open[group] = None
        self._next_big = min(self._next_big, group.rank)
        if self._to_help is not None:
            heapq.heappush(self._to_help, (-group.share(), group.rank, group))

    def _draw(self, group: _Group) -> Task:
        task = next(group.tasks, None)
        if task is None:
            raise RuntimeError(f"{group.name}: fewer tasks than the {group.units} that were announced")
        group.left -= 1
        if group.left == 0:
            group.state = _State.DRAINED
            self._open.pop(group, None)
            self._suspended.pop(group, None)
            self._undrained -= 1
        return task
