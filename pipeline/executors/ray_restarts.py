"""When a worker that died at its start is started again: at once it would die again, many times a second."""

import time
from collections.abc import Callable

FIRST_PAUSE = 5.0
LONGEST_PAUSE = 300.0


class Restarts:
    """Pauses in seconds, for each worker its own: twice as long after each start that failed, until one succeeds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pauses: dict[int, float] = {}
        self._due: dict[int, float] = {}

    def failed(self, worker: int) -> float:
        """Note that a worker died at its start; return the pause until it is due again."""
        pause = min(2 * self._pauses[worker], LONGEST_PAUSE) if worker in self._pauses else FIRST_PAUSE
        self._pauses[worker] = pause
        self._due[worker] = self._clock() + pause
        return pause

    @property
    def waiting(self) -> bool:
        """Whether a worker will be due."""
        return bool(self._due)

    def came_up(self, worker: int) -> None:
        """Note that a worker started: its next failure is a first one."""
        self._pauses.pop(worker, None)

    def take_due(self) -> list[int]:
        """Return the workers whose pause is over, each of them once."""
        now = self._clock()
        due = [worker for worker, when in self._due.items() if when <= now]
        for worker in due:
            del self._due[worker]
        return due
