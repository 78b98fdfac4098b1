"""What a worker hands the driver when a unit's files are published: frozen, picklable, and a part of the commit."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from manifests.frozen import FrozenModel
from shards.statuses import Reason, Status

_STATUSES, _REASONS = frozenset(Status), frozenset(Reason)


def _statuses(counts: dict[str, int]) -> dict[str, int]:
    return counts if counts.keys() <= _STATUSES else {Status(status).value: draws for status, draws in counts.items()}


def _reasons(counts: dict[str, int]) -> dict[str, int]:
    return counts if counts.keys() <= _REASONS else {Reason(reason).value: draws for reason, draws in counts.items()}


StatusCounts = Annotated[dict[str, Annotated[int, Field(ge=1)]], AfterValidator(_statuses)]
ReasonCounts = Annotated[dict[str, Annotated[int, Field(ge=1)]], AfterValidator(_reasons)]


class FileRecord(FrozenModel):
    """A published file: `name` relative to DATASET with "/" between parts, `sha256` in hex, size in `bytes`."""

    name: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Receipt(FrozenModel):
    """The files that a worker published for a unit, and what became of the unit's draws."""

    unit: str
    generator: str
    generation: int = Field(ge=0)
    images: FileRecord | None = Field(description="None when no image was stored")
    rows: FileRecord
    counts: StatusCounts = Field(description="status -> draws; a status without draws is left out")
    reasons: ReasonCounts = Field(description="reason -> draws; a reason without draws is left out")

    @property
    def retryable(self) -> bool:
        """Whether any draw failed for a reason that a later generation may mend."""
        return any(Reason(reason).retryable for reason in self.reasons)
