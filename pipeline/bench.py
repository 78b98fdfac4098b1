"""Workers that get no work for a while: their machine refused, or whatever they were given failed there alone."""

import time
from collections import Counter
from collections.abc import Set

from manifests.errors import InputError

BENCHED_SECONDS = 900.0
"""Somebody may have mended the machine by then; if not, the worker is benched again."""


class Bench:
    """Who is benched, and for how long still."""

    def __init__(self) -> None:
        self._until: dict[int, float] = {}
        self._times: Counter[int] = Counter()
        self._last: InputError | None = None

    def __contains__(self, worker: int) -> bool:
        return worker in self._until

    def send(self, worker: int, refusal: InputError | None = None) -> None:
        """Bench a worker; `refusal` is what it said, if it said something."""
        self._until[worker] = time.monotonic() + BENCHED_SECONDS
        self._times[worker] += 1
        self._last = refusal or self._last

    def pardon(self) -> float | None:
        """Let those go whose time is over; return the seconds until the next one's is, None when nobody is left."""
        now = time.monotonic()
        for worker in [worker for worker, until in self._until.items() if until <= now]:
            del self._until[worker]
        return min(self._until.values(), default=now) - now if self._until else None

    def verdict(self, up: Set[int], more_to_come: bool) -> InputError | None:
        """Return what ends the run: every worker that is up is benched, and nobody else will come up to do the work, or
        all of them were benched twice."""
        if not up <= self._until.keys() or (more_to_come and any(self._times[worker] < 2 for worker in up)):
            return None
        return self._last
