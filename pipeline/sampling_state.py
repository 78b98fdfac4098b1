"""What the driver knows of the sampling under way, for people and dashboards. Nothing is decided by it.

Counts of images come from commits, so they agree with the dataset; times, bytes and retries come from the driver's
events. Every update is O(1), whatever the number of generators; readers in other threads take a snapshot.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple

from pipeline.model_tally import OUTCOMES, ModelState, ModelTally, lost_images
from shards.commit_cache import CommitSummary
from shards.statuses import Reason

RECENT_SECONDS = 600.0
"""The span that rates are taken over."""
_COUNTED = ("ok", "flagged", "degenerate", "failed", "lost")
SUMS = ("retries", "given_up", "fetched", "saved", "waited", "loading", "sampling", "worker_seconds")
"""What is summed over all the drivers that a run ever had. Bytes, and seconds of workers."""


@dataclass(frozen=True)
class _Lease:
    group: str
    worker: int
    attempt: int
    began: float
    since: float


class _Progress(NamedTuple):
    """One commit: when it was made, the images that were looked at for it, and the wanted ones that it covers."""

    time: float
    made: int
    covered: int


def eta_seconds(missing: int, covered_per_second: float | None) -> float | None:
    """Return the seconds until no image is missing, or still to be tried again; None when no rate is known.

    The rate is of wanted images that commits cover, with or without success: one image may take several draws, and a
    unit that fails covers its images too.
    """
    if not missing:
        return 0.0
    return round(missing / covered_per_second, 1) if covered_per_second else None


class SamplingState:
    """Counters of one sampling stage.

    Args:
        tallies: what each generator has and lacks at the start.
        units: units that are planned.
        again: images of units that are tried again: covered already, and yet to come.
        before: the `totals` of an earlier driver's last snapshot, which this one's sums go on from.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        tallies: dict[str, ModelTally],
        units: int,
        before: Mapping[str, Any] | None = None,
        again: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lock = Lock()
        self._clock = clock
        self._started = clock()
        self._tallies = tallies
        self._states = {name: tally.state() for name, tally in tallies.items()}
        self._models = Counter(self._states.values())
        self._images = Counter({name: sum(getattr(t, name) for t in tallies.values()) for name in _COUNTED})
        self._reasons: Counter[str] = Counter()
        for tally in tallies.values():
            self._reasons.update(tally.reasons)
        self._missing = sum(tally.missing for tally in tallies.values())
        self._wanted = sum(tally.wanted for tally in tallies.values())
        self._again = again
        self._planned = units
        self._ended = 0
        self._leases: dict[str, _Lease] = {}
        self._at_work: Counter[str] = Counter()
        self._free_since: dict[int, float] = {}
        before = before or {}
        self._sums = {name: before.get(name, 0) for name in SUMS}
        self._deaths: Counter[str] = Counter(before.get("deaths", {}))
        self._quarantined: dict[str, str] = {}
        self._recent: deque[_Progress] = deque()
        self._last: dict[str, Any] | None = None
        self._commits = 0
        self._commit_seconds = 0.0

    def hear(self, event: str, fields: Mapping[str, Any]) -> None:
        """Take one of the driver's events; see `pipeline.driver`."""
        with self._lock:
            if event == "leased":
                self._lease(fields)
            elif event in ("done", "retry", "given_up"):
                self._release(fields)
                if "signal" in fields:
                    self._deaths[str(fields["signal"])] += 1
                if event == "retry":
                    self._sums["retries"] += 1
                else:
                    self._ended += 1
                    self._sums["given_up"] += event == "given_up"
                    self._last = {"generator": fields["group"], "unit": fields["unit"], "reason": fields.get("reason")}
                    self._quarantined.pop(fields["unit"], None)
            elif event == "benched":
                self._release(fields)
            elif event == "quarantined":
                self._quarantined[fields["unit"]] = fields["group"]

    def committed(self, commit: CommitSummary, replaced: CommitSummary | None, seconds: float) -> None:
        """Count a commit that was just made in `seconds`, and no longer the one it replaces."""
        with self._lock:
            self._commits += 1
            self._commit_seconds += seconds
            if replaced is not None:
                self._count(replaced, -1)
                self._again -= commit.count
            else:
                self._tallies[commit.generator].missing -= commit.count
                self._missing -= commit.count
            self._recent.append(_Progress(self._clock(), self._count(commit, 1), commit.count))
            self._restate(commit.generator)

    def snapshot(self) -> dict[str, Any]:
        """Return everything as plain values; the keys are documented in docs/monitoring.md."""
        with self._lock:
            now = self._clock()
            made, covered = self._rates(now)
            return {
                "models": {"total": len(self._tallies)} | {state.value: self._models[state] for state in ModelState},
                "images": {name: self._images[name] for name in _COUNTED}
                | {"missing": self._missing, "wanted": self._wanted},
                "images_again": self._again,
                "reasons": {str(Reason(reason)): draws for reason, draws in self._reasons.items() if draws},
                "units": {
                    "waiting": max(self._planned - self._ended - len(self._leases), 0),
                    "running": len(self._leases),
                    "ended": self._ended,
                },
                "images_per_second": round(made, 4),
                "covered_per_second": round(covered, 4),
                "eta_seconds": eta_seconds(self._missing + self._again, covered),
                "idle_share": self._idle_share(),
                "quarantined": dict(self._quarantined),
                "running": [
                    {
                        "unit": unit,
                        "generator": lease.group,
                        "worker": lease.worker,
                        "attempt": lease.attempt,
                        "seconds": round(now - lease.began, 1),
                    }
                    for unit, lease in self._leases.items()
                ],
                "last": self._last,
                "seconds": round(now - self._started, 1),
                "commits": {"count": self._commits, "seconds": round(self._commit_seconds, 3)},
                "totals": dict(self._sums) | {"deaths": dict(self._deaths)},
            }

    def _count(self, commit: CommitSummary, times: int) -> int:
        """Add or take away a commit's draws; returns those that made an image."""
        self._tallies[commit.generator].count(commit, times)
        made = 0
        for status, draws in commit.counts.items():
            outcome = OUTCOMES[status]
            self._images[outcome] += times * draws
            made += draws if outcome != "failed" else 0
        self._images["lost"] += times * lost_images(commit)
        for reason, draws in commit.reasons.items():
            if reason != Reason.none:
                self._reasons[reason] += times * draws
        return made

    def _lease(self, fields: Mapping[str, Any]) -> None:
        unit, group, worker, now = fields["unit"], fields["group"], fields["worker"], self._clock()
        since = self._free_since.get(worker, self._started)
        self._leases[unit] = _Lease(group, worker, fields["attempt"], now, since)
        self._at_work[group] += 1
        self._restate(group)

    def _release(self, fields: Mapping[str, Any]) -> None:
        for name, value in fields.get("usage", {}).items():
            self._sums[name] += value
        lease = self._leases.pop(fields["unit"], None)
        if lease is None:  # given up without a worker, because its generator cannot be had
            return
        now = self._clock()
        self._sums["worker_seconds"] += now - lease.since
        self._free_since[lease.worker] = now
        self._at_work[lease.group] -= 1
        self._restate(lease.group)

    def _restate(self, generator: str) -> None:
        before, now = self._states[generator], self._tallies[generator].state(self._at_work[generator] > 0)
        if before is not now:
            self._states[generator] = now
            self._models[before] -= 1
            self._models[now] += 1

    def _rates(self, now: float) -> tuple[float, float]:
        """Images made, and wanted images covered, a second: over the last `RECENT_SECONDS`, or since the start."""
        while self._recent and self._recent[0].time < now - RECENT_SECONDS:
            self._recent.popleft()
        span = max(min(now - self._started, RECENT_SECONDS), 1e-3)
        return sum(step.made for step in self._recent) / span, sum(step.covered for step in self._recent) / span

    def _idle_share(self) -> float | None:
        """Share of the workers' time in which their devices did not sample; None before the first unit ended."""
        spent = self._sums["worker_seconds"]
        return round(min(max(1 - self._sums["sampling"] / spent, 0.0), 1.0), 4) if spent else None
