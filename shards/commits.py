"""The commit log: the records that make shards part of the dataset.

A commit is one JSON file, made if absent: of any number of writers exactly one makes
`commits/<unit>.<generation>.json`, and the others get `CommitExists`. It is never changed and never removed, so a
parsed commit may be remembered for ever. The highest generation of a unit wins and fully replaces the rows of those
below it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, ValidationError

from manifests.errors import InputError
from manifests.frozen import FrozenModel
from shards import layout, storage
from shards.receipt import FileRecord, ReasonCounts, Receipt, StatusCounts
from shards.statuses import Reason, Status

FIRST_GENERATION = 0


class CommitExists(Exception):  # noqa: N818 - named for what is the case
    """Somebody already committed this generation of this unit. Nothing was written."""


class ShardMissing(Exception):  # noqa: N818
    """A commit names a file that is not in the dataset, or has another size there. Nothing was written."""


class RetryRefused(Exception):  # noqa: N818
    """A unit may not open this generation: the one before is missing, or no retry can help. Nothing was written."""


class CommitUnreadable(InputError):  # noqa: N818
    """A commit file is truncated, garbled, or says something other than its name. The message names the file."""


class UnitInfo(FrozenModel):
    """What the plan says of a unit: `count` target draws of a generator from draw number `first` on."""

    unit: str
    generator: str
    revision: str | None = None
    label: int = Field(ge=0, le=1, description="1 fake, 0 real")
    first: int = Field(ge=0)
    count: int = Field(ge=0)
    generation: int = Field(default=FIRST_GENERATION, ge=FIRST_GENERATION)


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
            **info.model_dump(include=set(UnitInfo.model_fields)),
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


def may_retry(commit: Commit, statuses: Collection[Status]) -> bool:
    """Whether `--retry STATUS ...` opens the next generation of the unit whose last commit this is.

    True when some draw has one of `statuses` for a reason that a retry may mend. Without a named status, never.
    """
    wanted = set(statuses)
    return any(reason.retryable and reason.status in wanted for reason in map(Reason, commit.reasons))


class CommitLog:
    """The commits of a dataset. Parsed commits are kept, so loading again opens only files that are new."""

    def __init__(self, root: Path) -> None:
        self._root = storage.local_root(root)
        self._folder = self._root / layout.COMMITS
        self._parsed: dict[tuple[str, int], Commit] = {}

    def commit(self, commit: Commit) -> None:
        """Make the unit's shards part of the dataset, durably. The caller holds the run lock.

        Raises ShardMissing when a shard file is absent or has another size, RetryRefused when the generation may not be
        opened, CommitExists when this generation of the unit is already committed.
        """
        if not layout.is_unit(commit.unit):
            raise ValueError(f"unit {commit.unit!r}: allowed are 1 to 80 letters, digits, '_' and '-'")
        self._check_files(commit)
        self._check_generation(commit)
        path = self._root / layout.commit_name(commit.unit, commit.generation)
        try:
            storage.create(path, commit.model_dump_json(indent=1).encode() + b"\n")
        except FileExistsError as error:
            raise CommitExists(f"{path}: unit {commit.unit} is already committed in this generation") from error
        self._parsed[commit.unit, commit.generation] = commit

    def generations(self) -> dict[str, int]:
        """unit -> highest committed generation, from the file names alone."""
        highest: dict[str, int] = {}
        for unit, generation in self.names():
            if generation > highest.get(unit, -1):
                highest[unit] = generation
        return highest

    def names(self) -> list[tuple[str, int]]:
        """(unit, generation) of every commit, sorted. Raises InputError when this is no dataset."""
        try:
            with os.scandir(self._folder) as entries:
                parsed = [layout.parse_commit(entry.name) for entry in entries]
        except FileNotFoundError as error:
            raise InputError(f"{self._root}: no dataset here (folder {layout.COMMITS} is missing)") from error
        return sorted(name for name in parsed if name is not None)

    def read(self, unit: str, generation: int) -> Commit:
        """One commit. Raises CommitUnreadable, naming the file, when it is truncated or garbled."""
        known = self._parsed.get((unit, generation))
        if known is not None:
            return known
        path = self._root / layout.commit_name(unit, generation)
        try:
            commit = Commit.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise CommitUnreadable(f"{path}: not a commit: {where + ': ' if where else ''}{first['msg']}") from error
        if (commit.unit, commit.generation) != (unit, generation):
            raise CommitUnreadable(f"{path}: holds the commit of unit {commit.unit} generation {commit.generation}")
        outside = [file.name for file in commit.files if not layout.is_relative(file.name)]
        if outside:
            raise CommitUnreadable(f"{path}: names the file {outside[0]!r}, which is outside the dataset")
        self._parsed[unit, generation] = commit
        return commit

    def load(self) -> list[Commit]:
        """Every commit of every generation, sorted by unit and generation."""
        return [self.read(unit, generation) for unit, generation in self.names()]

    def winners(self) -> dict[str, Commit]:
        """unit -> the commit of its highest generation, sorted by unit; older generations are not opened."""
        return {unit: self.read(unit, generation) for unit, generation in sorted(self.generations().items())}

    def _check_files(self, commit: Commit) -> None:
        for file in commit.files:
            path = self._root / file.name
            if not layout.is_relative(file.name) or not path.is_file():
                raise ShardMissing(f"{path}: not there, so unit {commit.unit} cannot be committed")
            size = path.stat().st_size
            if size != file.bytes:
                raise ShardMissing(f"{path}: {size} bytes, but the receipt of unit {commit.unit} says {file.bytes}")

    def _check_generation(self, commit: Commit) -> None:
        if commit.generation == FIRST_GENERATION:
            return
        before = commit.generation - 1
        if not (self._root / layout.commit_name(commit.unit, before)).is_file():
            raise RetryRefused(
                f"unit {commit.unit}: generation {commit.generation} needs generation {before} before it"
            )
        if not self.read(commit.unit, before).retryable:
            raise RetryRefused(f"unit {commit.unit}: no draw of generation {before} has a reason that a retry may mend")
