"""How far each generator is: images by outcome, and the state that follows from them. From commits alone."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pipeline.plan import Interval, missing_intervals
from shards.commit_cache import CommitSummary
from shards.statuses import Reason, Status


class ModelState(StrEnum):
    """Where a generator stands. One that still lacks images is `running` or `waiting`, whatever failed before."""

    done = "done"
    failed = "failed"
    quarantined = "quarantined"
    running = "running"
    waiting = "waiting"


_QUARANTINED = frozenset({Reason.quarantined, Reason.worker_signal})
OUTCOMES = {str(status): "failed" if status.failed else str(status) for status in Status}
"""status → ok, flagged, degenerate or failed"""


@dataclass(slots=True)
class ModelTally:
    """One generator's images: wanted, not covered by any commit yet, and draws by outcome.

    Attributes:
        lost: images that commits cover and do not have: their draws failed, or the unit's reserve was spent.
        reasons: why draws were rejected or failed, to draws.
    """

    generator: str
    wanted: int
    missing: int
    ok: int = 0
    flagged: int = 0
    degenerate: int = 0
    failed: int = 0
    lost: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def reason(self) -> str | None:
        """The most frequent reason of the failed draws."""
        failing = {reason: draws for reason, draws in self.reasons.items() if Reason(reason).status.failed}
        return max(failing, key=lambda reason: failing[reason]) if failing else None

    def state(self, running: bool = False) -> ModelState:
        """Return the state; `running`: a worker holds one of its units now."""
        if running:
            return ModelState.running
        if self.missing > 0:
            return ModelState.waiting
        if not self.failed:
            return ModelState.done
        return ModelState.quarantined if _QUARANTINED & self.reasons.keys() else ModelState.failed

    def count(self, commit: CommitSummary, times: int = 1) -> None:
        """Add a commit's draws; with `times` -1 take them away, as when a later generation replaces them."""
        for status, draws in commit.counts.items():
            name = OUTCOMES[status]
            setattr(self, name, getattr(self, name) + times * draws)
        self.lost += times * lost_images(commit)
        for reason, draws in commit.reasons.items():
            if reason != Reason.none:
                self.reasons[reason] = self.reasons.get(reason, 0) + times * draws
                if not self.reasons[reason]:
                    del self.reasons[reason]


def lost_images(commit: CommitSummary) -> int:
    """Return how many of the images that a commit covers it does not have."""
    return commit.count - commit.counts.get(Status.ok, 0)


def tally_models(
    generators: Mapping[str, str | None], wanted: int, unit_images: int, commits: Iterable[CommitSummary]
) -> dict[str, ModelTally]:
    """Return generator → tally, in the order of `generators`, which maps names to the revisions of the catalog.

    A generator that has commits and is not in the catalog any more comes last, and lacks nothing; commits of another
    revision are counted, and cover nothing of this one.
    """
    covered: dict[str, list[Interval]] = defaultdict(list)
    tallies = {name: ModelTally(name, wanted, 0) for name in generators}
    for commit in commits:
        if commit.label != 1:
            continue
        if commit.generator in generators and commit.revision == generators[commit.generator]:
            covered[commit.generator].append((commit.first, commit.first + commit.count))
        tally = tallies.get(commit.generator)
        if tally is None:
            tally = tallies[commit.generator] = ModelTally(commit.generator, wanted, 0)
        tally.count(commit)
    for name in generators:
        gaps = missing_intervals(wanted, covered[name], unit_images)
        tallies[name].missing = sum(end - first for first, end in gaps)
    return tallies
