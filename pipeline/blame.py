"""Whose fault failures are: a unit's, its generator's, or neither's. Pure state.

A generator is given up whole only while it has never worked: then its units would fail one after another for the same
reason, each after its own download and time-out. Once a unit of it was done, here or in an earlier run, a failure is
the unit's, or of the worker that had it. What was given up meanwhile on account of others stays so; a later unit that
is done clears the generator.
"""

from collections import Counter
from collections.abc import Collection

from shards.statuses import Reason, Status

LOST_UNITS = 2
"""Units given up while sampling (deaths, want of memory, time-outs, errors) that speak for a generator of which none
was done."""
BEFORE_THE_FIRST_IMAGE = frozenset(
    reason
    for reason in Reason
    if reason.status in (Status.load_failed, Status.gone, Status.gated, Status.unsupported, Status.adapter_no_effect)
    or reason is Reason.download_timeout
)
"""Failures of fetching and loading. Every unit of the generator goes through the same; one unit is enough to know."""


class Blame:
    """What is known of each generator.

    Args:
        worked: generators of which units were done in earlier runs.
    """

    def __init__(self, worked: Collection[str] = ()) -> None:
        self._worked = set(worked)
        self._lost: Counter[tuple[str, Status]] = Counter()
        self._condemned: dict[str, tuple[Reason, str]] = {}

    def worked(self, generator: str) -> bool:
        """Whether a unit of it was done."""
        return generator in self._worked

    def verdict(self, generator: str) -> tuple[Reason, str] | None:
        """Return why no unit of the generator is tried any more, None while they are."""
        return self._condemned.get(generator)

    def done(self, generator: str) -> None:
        """Note that a unit was done: whatever was said against the generator, it works."""
        self._worked.add(generator)
        self._condemned.pop(generator, None)

    def lost(self, generator: str, reason: Reason, detail: str) -> None:
        """Note that a unit was given up after its last try."""
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
