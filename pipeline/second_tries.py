"""Tasks that are to be tried again, and on which worker: rather not where they have failed. Pure state."""

from collections import deque
from collections.abc import Iterable

from pipeline.tasks import Task


class SecondTries:
    """Waiting tasks by group, in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Task]] = {}
        self._failed_at: dict[str, set[int]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def groups(self) -> list[str]:
        """The groups that have a task here."""
        return list(self._waiting)

    def add(self, task: Task, failed_at: int | None = None) -> None:
        """Let a task wait; `failed_at` is the worker to avoid, as far as another will take it."""
        if failed_at is not None:
            self._failed_at.setdefault(task.id, set()).add(failed_at)
        self._waiting.setdefault(task.group, deque()).append(task)

    def forget(self, task: Task) -> None:
        """Forget where a task has failed: it came to its end."""
        self._failed_at.pop(task.id, None)

    def failed_at(self, worker: int) -> list[str]:
        """Return the ids of tasks that have failed on the worker."""
        return [task for task, workers in self._failed_at.items() if worker in workers]

    def take(self, groups: Iterable[str], worker: int, *, anyone: bool) -> Task | None:
        """Return the first task of these groups that did not fail on the worker, or any with `anyone`."""
        for group in groups:
            for place, task in enumerate(self._waiting.get(group, ())):
                if anyone or worker not in self._failed_at.get(task.id, ()):
                    del self._waiting[group][place]
                    if not self._waiting[group]:
                        del self._waiting[group]
                    return task
        return None
