"""The real scheduler over a simulated cluster: the last worker ends soon after the others, whatever the sizes.

Time is counted in units of work. To load a model takes time, and to fetch it too unless it was announced while the
worker sampled something else; several workers at one model each load it.
"""

import heapq
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from signal import SIGKILL

import pytest

from manifests.draws import Draw
from manifests.generator import GeneratorSpec
from manifests.unit import UnitSpec
from pipeline.scheduler import Scheduler
from pipeline.tasks import Died, Done, Task
from pipeline.work_queue import TaskGroup

DRAW = Draw(index=0, seed=1, prompt_id="p", prompt="", prompt_source="unconditional")


def _units(spec: GeneratorSpec, units: int) -> Iterator[Task]:
    template = UnitSpec(generator=spec, first=0, count=1, draws=(DRAW,), batch_size=1, cpu_threads=1)
    for first in range(units):
        unit = template.model_copy(update={"first": first})
        unit.__dict__["unit"] = f"{spec.name}-{first}"  # cached; the hash of a unit takes longer than its scheduling
        yield Task(unit)


def _groups(sizes: Sequence[int], families: int = 5) -> list[TaskGroup]:
    groups = []
    for number, units in enumerate(sizes):
        name, family = f"g{number}", f"f{number % families}"
        spec = GeneratorSpec(name=name, kind="unconditional", repo_id=f"owner/{name}", family=family)
        groups.append(TaskGroup(name, family, _units(spec, units), units, spec))
    return groups


@dataclass
class _Cluster:
    """What a simulation came to: its length, and what was loaded and waited for."""

    workers: int
    load: float
    fetch: float
    prefetch: int = 1
    duration: Callable[[], float] = lambda: 1.0
    ended: float = 0.0
    worked: float = 0.0
    loads: Counter[str] = field(default_factory=Counter)
    cold: int = 0
    changes_of_family: int = 0
    units: list[str] = field(default_factory=list)

    def run(self, sizes: Sequence[int], death: Callable[[], bool] = lambda: False) -> "_Cluster":
        scheduler = Scheduler(_groups(sizes), attempts=3, prefetch=self.prefetch)
        model: dict[int, tuple[str, str]] = {}
        announced: dict[int, set[str]] = {}
        running: list[tuple[float, int, int, Task]] = []
        idle, order = list(range(self.workers)), count()
        while not scheduler.finished:
            while idle and (task := scheduler.lease(idle[-1])) is not None:
                worker = idle.pop()
                takes = self.duration()
                if model.get(worker, ("", ""))[0] != task.group:
                    self.loads[task.group] += 1
                    takes += self.load
                    if task.group not in announced.get(worker, ()):
                        self.cold += 1
                        takes += self.fetch
                    self.changes_of_family += worker in model and model[worker][1] != task.family
                    model[worker] = (task.group, task.family)
                announced[worker] = {spec.name for spec in task.upcoming}
                self.worked += takes
                heapq.heappush(running, (self.ended + takes, next(order), worker, task))
            if not running:
                continue
            self.ended, _, worker, task = heapq.heappop(running)
            idle.append(worker)
            if death():
                model.pop(worker)
                scheduler.judge(Died(task, SIGKILL))
            else:
                self.units.append(task.id)
                scheduler.judge(Done(task, 0.0, "host"))
        return self

    def least(self, sizes: Sequence[int]) -> float:
        """No schedule is shorter: each model loaded once, everything else at the same time."""
        once = self.load + self.fetch + 1
        return max((sum(sizes) + len(sizes) * self.load + self.workers * self.fetch) / self.workers, once)


SIZES = {
    "many equal ones": [7] * 300,
    "as many as workers, almost": [7] * 70,
    "one unit each": [1] * 300,
    "a huge one at the end": [7] * 300 + [625],
    "three huge ones at the end": [7] * 100 + [625] * 3,
    "nothing but a huge one": [625],
    "all sorts": [random.Random(1).choice([1, 3, 7, 7, 7, 40, 200]) for _ in range(200)],
}


@pytest.mark.parametrize("workers", [1, 3, 64])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_the_end_is_near_the_least_that_any_schedule_could_do(sizes: list[int], workers: int) -> None:
    for load, fetch in ((0.1, 0.2), (1.0, 2.0), (5.0, 10.0)):
        cluster = _Cluster(workers, load, fetch).run(sizes)
        assert len(set(cluster.units)) == len(cluster.units) == sum(sizes)
        assert cluster.ended <= cluster.least(sizes) + 2 * (load + fetch + 1), (load, fetch)


def test_whatever_units_take_no_worker_idles_before_the_last_task_of_another() -> None:
    """No worker idles while there is work, so what is lost at the end is at most the longest task of one worker."""
    chance = random.Random(2)
    for _ in range(40):
        sizes = [chance.choice([1, 7, 7, 50]) for _ in range(chance.randint(1, 60))]
        cluster = _Cluster(chance.randint(1, 64), 3.0, 1.0, duration=lambda: chance.uniform(0.2, 3.0)).run(sizes)
        assert cluster.ended <= cluster.worked / cluster.workers + 3.0 + 1.0 + 3.0


def test_a_huge_generator_is_loaded_by_as_many_workers_as_it_needs_and_not_by_all_at_the_end() -> None:
    sizes = [7] * 2000 + [625]
    cluster = _Cluster(64, 5.0, 20.0).run(sizes)
    share = sum(sizes) / 64
    assert cluster.loads["g2000"] == math.ceil(625 / share) == 3
    assert sum(cluster.loads.values()) <= len(sizes) + 64
    assert cluster.ended <= cluster.least(sizes) + 5 + 20 + 1


def test_models_are_fetched_while_another_samples_and_families_are_kept() -> None:
    sizes = [7] * 400
    cluster = _Cluster(8, 1.0, 5.0).run(sizes)
    assert cluster.cold <= 2 * 8, "each worker waits for its first model, and perhaps for one at the end"
    assert cluster.changes_of_family <= 3 * 8
    assert _Cluster(8, 1.0, 5.0, prefetch=0).run(sizes).cold >= len(sizes)


def test_killed_workers_cost_their_units_again_and_nothing_else() -> None:
    chance = random.Random(3)
    sizes = [7] * 100
    cluster = _Cluster(16, 1.0, 1.0).run(sizes, death=lambda: chance.random() < 0.05)
    assert len(set(cluster.units)) == len(cluster.units) == sum(sizes)


def test_the_cost_of_a_lease_does_not_grow_with_the_number_of_generators() -> None:
    def seconds(generators: int) -> float:
        groups, order = _groups([1] * generators, families=30), random.Random(4)
        started = time.process_time()
        scheduler = Scheduler(groups, attempts=3, prefetch=2)
        running: dict[int, Task] = {}
        while not scheduler.finished:
            for worker in set(range(64)) - running.keys():
                if (task := scheduler.lease(worker)) is not None:
                    running[worker] = task
            if running:
                scheduler.judge(Done(running.pop(order.choice(list(running))), 0.0, "host"))
        return (time.process_time() - started) / generators

    small = min(seconds(1000) for _ in range(3))
    large = min(seconds(20_000) for _ in range(2))
    assert large < 8 * small, "with a cost that grows with their number, it would be 20 times as much"
