"""What a check of a dataset can find: a closed list of kinds, of which some are only remarks."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Literal

from pydantic import computed_field

from manifests.frozen import FrozenModel


class Kind(StrEnum):
    """What is wrong, or worth saying."""

    unreadable_commit = "unreadable_commit"  # a commit file is truncated, garbled or misnamed
    commit_without_shard = "commit_without_shard"  # no file that the commit names is there
    missing_shard = "missing_shard"  # one of the files that the commit names is not there
    truncated_shard = "truncated_shard"  # a shard is shorter than its commit says
    shard_hash = "shard_hash"  # a shard's bytes are not the committed ones
    unreadable_shard = "unreadable_shard"  # a shard with the committed bytes is not a tar, or not rows of this schema
    row_mismatch = "row_mismatch"  # a row disagrees with its commit, or breaks the row rules
    row_without_image = "row_without_image"  # a row points at bytes that are no member of its tar
    image_without_row = "image_without_row"  # a tar holds a member that no row points at
    image_hash = "image_hash"  # an image's bytes do not have the row's SHA-256
    counts = "counts"  # ok + flagged + degenerate + failed = draws does not hold, or more images than wanted
    duplicate_image_id = "duplicate_image_id"  # two committed rows have one id
    overlapping_draws = "overlapping_draws"  # two units of a generator claim the same draw numbers
    missing_generation = "missing_generation"  # a unit's generations have a gap

    uncommitted_file = "uncommitted_file"  # a shard or temporary that no commit names: litter, or work in flight
    foreign_file = "foreign_file"  # a file in images/ or rows/ that this software does not write
    stale_index = "stale_index"  # index or pairs were made from other commits

    @property
    def remark(self) -> bool:
        """True when the dataset is sound all the same."""
        return self in (Kind.uncommitted_file, Kind.foreign_file, Kind.stale_index)


class Finding(FrozenModel):
    """One thing found: its kind, the file it is in (relative to DATASET), and what exactly."""

    kind: Kind
    file: str
    detail: str

    @classmethod
    def of(cls, kind: Kind, file: str, detail: str) -> Finding:
        """The finding, from its three parts in order."""
        return cls(kind=kind, file=file, detail=detail)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def severity(self) -> Literal["error", "info"]:
        """`error` when the dataset is damaged, `info` for a remark."""
        return "info" if self.kind.remark else "error"


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that mean damage."""
    return [finding for finding in findings if finding.severity == "error"]
