"""A commit: the record that makes a unit's shard part of the dataset.

One JSON file, `commits/<unit>.<generation>.json`: what the plan says of the unit, what its worker published, and
everything about the run that rows must not hold. How commits are made and read is `shards.commit_log`'s.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from functools import lru_cache

from pydantic import Field

from manifests.frozen import FrozenModel
from shards import layout
from shards.commit_cache import CommitSummary
from shards.receipt import FileRecord, ReasonCounts, Receipt, StatusCounts
from shards.statuses import Reason, Status

FIRST_GENERATION = 0


class UnitInfo(FrozenModel):
    """What the plan says of a unit: `count` target draws of a generator from draw number `first` on."""

    unit: str
    generator: str
    revision: str | None = None
    label: int = Field(ge=0, le=1, description="1 fake, 0 real")
    first: int = Field(ge=0)
    count: int = Field(ge=0)
    generation: int = Field(default=FIRST_GENERATION, ge=FIRST_GENERATION)
    split: str | None = Field(default=None, description="split of the unit's rows; None when they differ in it")
    prompts: int | None = Field(
        default=None, ge=0, description="prompts of the split that the unit was planned from: the table's first ones"
    )


class Commit(UnitInfo):
    """A unit's receipt, and everything about the run that rows must not hold (clock, host, attempt, log)."""

    images: FileRecord | None
    rows: FileRecord
    counts: StatusCounts
    reasons: ReasonCounts
    retryable: bool = Field(description="whether a later generation may mend any draw")
    environment: str | None = Field(description="id of what byte equality depends on")
    versions: dict[str, str] = Field(default_factory=dict, description="library -> version")
    host: str = Field(description="machine that made the unit")
    attempt: int = Field(ge=1, description="how often the unit was leased in this generation")
    seconds: float = Field(ge=0, description="time from lease to receipt")
    log_tail: str = Field(default="", description="the last lines that the worker logged")
    committed_at: str = Field(description="UTC, ISO 8601")

    @property
    def draws(self) -> int:
        """How many rows the unit has."""
        return sum(self.counts.values())

    @property
    def file(self) -> str:
        """The commit's own name, relative to DATASET."""
        return layout.commit_name(self.unit, self.generation)

    @property
    def summary(self) -> CommitSummary:
        """The values that planning and counting need; what many commits have in common is one object for all."""
        return CommitSummary(
            unit=self.unit,
            generation=self.generation,
            generator=sys.intern(self.generator),
            revision=None if self.revision is None else sys.intern(self.revision),
            label=self.label,
            first=self.first,
            count=self.count,
            split=None if self.split is None else sys.intern(self.split),
            prompts=self.prompts,
            retryable=self.retryable,
            stored=0 if self.images is None else self.images.bytes,
            seconds=self.seconds,
            counts=_shared(tuple(self.counts.items())),
            reasons=_shared(tuple(self.reasons.items())),
        )

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """The shard files, rows last."""
        return (self.rows,) if self.images is None else (self.images, self.rows)

    @classmethod
    def of(
        cls,
        info: UnitInfo,
        receipt: Receipt,
        *,
        environment: str | None,
        versions: Mapping[str, str],
        attempt: int = 1,
        seconds: float = 0.0,
        host: str | None = None,
        log_tail: str = "",
        committed_at: str | None = None,
    ) -> Commit:
        """The commit of a planned unit and the receipt for it; `host` and `committed_at` default to here and now.

        Raises ValueError when the receipt is for another unit, generator or generation.
        """
        for key in ("unit", "generator", "generation"):
            if getattr(info, key) != getattr(receipt, key):
                raise ValueError(
                    f"unit {info.unit!r}: {key} {getattr(info, key)!r}, but its receipt says {getattr(receipt, key)!r}"
                )
        return cls(
            **{key: getattr(info, key) for key in UnitInfo.model_fields},
            images=receipt.images,
            rows=receipt.rows,
            counts=receipt.counts,
            reasons=receipt.reasons,
            retryable=receipt.retryable,
            environment=environment,
            versions=dict(versions),
            host=socket.gethostname() if host is None else host,
            attempt=attempt,
            seconds=seconds,
            log_tail=log_tail,
            committed_at=datetime.now(UTC).isoformat(timespec="seconds") if committed_at is None else committed_at,
        )


@lru_cache(maxsize=1 << 14)
def _shared(counts: tuple[tuple[str, int], ...]) -> Mapping[str, int]:
    return dict(counts)


def may_retry(commit: Commit | CommitSummary, statuses: Collection[Status]) -> bool:
    """Whether `--retry STATUS ...` opens the next generation of the unit whose last commit this is.

    True when some draw has one of `statuses` for a reason that a retry may mend. Without a named status, never.
    """
    wanted = set(statuses)
    return any(reason.retryable and reason.status in wanted for reason in map(Reason, commit.reasons))
