"""Whose fault failures are: a unit's, its generator's, or the worker's. Pure state.

* **Generators.** One that has worked, here or in an earlier run, is never given up whole: what fails then is a unit, or
  the worker that had it. One that never worked is given up when a failure of it is *credible*; its other units would
  fail for the same reason, each after its own download and time-out. A unit that is done clears it.
* **Workers.** A failure is credible when the worker's last unit was done, when another worker has seen the generator
  fail too (on another host, unless all are known to be on one), or when there is only one worker. Else it may be the
  worker's own: a broken GPU or disk fails within seconds, asks for more, and would write off a catalog while others
  sample. Generators that failed nowhere else, since the worker's last unit that was done, are held against it.
"""

from collections import Counter
from collections.abc import Collection

from shards.statuses import Reason, Status

LOST_UNITS = 2
"""Units given up while sampling (deaths, want of memory, time-outs, errors) that speak for a generator of which none
was done."""
SUSPICIOUS = 3
"""Generators held against a worker that make it suspicious."""
BEFORE_THE_FIRST_IMAGE = frozenset(
    reason
    for reason in Reason
    if reason.status in (Status.load_failed, Status.gone, Status.gated, Status.unsupported, Status.adapter_no_effect)
    or reason is Reason.download_timeout
)
"""Failures of fetching and loading. Every unit of the generator goes through the same; one unit is enough to know."""
THE_HUBS_WORD = frozenset(reason for reason in Reason if reason.status in (Status.gone, Status.gated))
"""What the hub says of a generator; no worker can be wrong about it."""


class Blame:
    """What is known of each generator and each worker.

    Args:
        worked: generators of which units were done in earlier runs.
    """

    def __init__(self, worked: Collection[str] = ()) -> None:
        self._worked = set(worked)
        self._lost: Counter[tuple[str, Status]] = Counter()
        self._condemned: dict[str, tuple[Reason, str]] = {}
        self._seen_failing: dict[str, set[int]] = {}
        self._held_against: dict[int, set[str]] = {}
        self._trusted: set[int] = set()
        self._host: dict[int, str] = {}

    def worked(self, generator: str) -> bool:
        """Whether a unit of it was done."""
        return generator in self._worked

    def verdict(self, generator: str) -> tuple[Reason, str] | None:
        """Return why no unit of the generator is tried any more, None while they are."""
        return self._condemned.get(generator)

    def done(self, generator: str, worker: int, host: str) -> None:
        """Note that a worker has done a unit: whatever was said against the generator or the worker, they work."""
        self._worked.add(generator)
        self._condemned.pop(generator, None)
        self._seen_failing.pop(generator, None)
        self._held_against.pop(worker, None)
        self._trusted.add(worker)
        self._host[worker] = host

    def failed(self, generator: str, worker: int, host: str, workers: Collection[int]) -> bool:
        """Note a failure; return whether it is credible. `workers` are all that were given work so far."""
        self._host[worker] = host or self._host.get(worker, "")
        seen = self._seen_failing.setdefault(generator, set())
        seen.add(worker)
        one_host = len(set(self._host.values())) == 1 and self._host.keys() >= set(workers)
        credible = worker in self._trusted or any(
            other != worker and (one_host or self._host[other] != self._host[worker]) for other in seen
        )
        self._trusted.discard(worker)
        if credible and not self.worked(generator):
            for held in self._held_against.values():
                held.discard(generator)
        else:
            self._held_against.setdefault(worker, set()).add(generator)
        return credible

    def suspicious(self, worker: int) -> bool:
        """Whether too many different generators failed on the worker and nowhere else."""
        return len(self._held_against.get(worker, ())) >= SUSPICIOUS

    def dismiss(self, worker: int) -> None:
        """Forget what the worker has seen failing."""
        self._held_against.pop(worker, None)
        self._trusted.discard(worker)
        for seen in self._seen_failing.values():
            seen.discard(worker)

    def lost(self, generator: str, reason: Reason, detail: str) -> None:
        """Note that a unit was given up after its last try, for a failure that is credible."""
        if self.worked(generator):
            return
        if reason in BEFORE_THE_FIRST_IMAGE:
            self.condemn(generator, reason, detail)
            return
        self._lost[generator, reason.status] += 1
        units = self._lost[generator, reason.status]
        if units >= LOST_UNITS:
            self.condemn(generator, reason, f"not tried: {units} units of this generator failed, and none was done")

    def condemn(self, generator: str, reason: Reason, detail: str) -> None:
        """Try no further unit of the generator."""
        self._condemned[generator] = reason, detail
