"""The commit log: the records that make shards part of the dataset.

A commit is one JSON file, made if absent: of any number of writers exactly one makes
`commits/<unit>.<generation>.json`, and the others get `CommitExists`. It is never changed and never removed, so a
parsed commit may be remembered for ever. The highest generation of a unit wins and fully replaces the rows of those
below it.

Most questions about a dataset (what is missing, what failed, how many images) need a few values of each commit.
`CommitLog.summaries` answers them without opening every file again: see `shards.commit_cache`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from manifests.errors import InputError
from shards import layout, storage
from shards.commit_cache import CommitSummary, read_cache, write_cache
from shards.commits import FIRST_GENERATION, Commit

CACHE_AT_LEAST = 2000
"""Commits missing from the cache before it is written anew, as long as they are a quarter of those in it: so all the
writing of it costs a small constant for each commit, and a start never opens more than a fifth of many commits."""


class CommitExists(Exception):  # noqa: N818 - named for what is the case
    """Somebody already committed this generation of this unit. Nothing was written."""


class ShardMissing(Exception):  # noqa: N818
    """A commit names a file that is not in the dataset, or has another size there. Nothing was written."""


class RetryRefused(Exception):  # noqa: N818
    """A unit may not open this generation: the one before is missing, or no retry can help. Nothing was written."""


class CommitUnreadable(InputError):  # noqa: N818
    """A commit file is truncated, garbled, or says something other than its name. The message names the file."""


class CommitLog:
    """The commits of a dataset. Commits that were read are kept, so reading again opens only files that are new."""

    def __init__(self, root: Path) -> None:
        self._root = storage.local_root(root)
        self._folder = self._root / layout.COMMITS
        self._cache = self._root / layout.COMMIT_CACHE
        self._parsed: dict[tuple[str, int], Commit] = {}
        self._summaries: dict[str, CommitSummary] = {}  # unit -> of the highest generation known
        self._cached: dict[str, int] | None = None  # unit -> generation in the cache's file; None before it is read

    def commit(self, commit: Commit) -> CommitSummary:
        """Make the unit's shards part of the dataset, durably, and return what it comes to. The caller holds the lock.

        Raises ShardMissing when a shard file is absent or has another size, RetryRefused when the generation may not be
        opened, CommitExists when this generation of the unit is already committed.
        """
        if not layout.is_unit(commit.unit):
            raise ValueError(f"unit {commit.unit!r}: allowed are 1 to 80 letters, digits, '_' and '-'")
        self._check_files(commit)
        self._check_generation(commit)
        path = self._root / layout.commit_name(commit.unit, commit.generation)
        if self._known_cache().get(commit.unit) == commit.generation and not path.exists():
            self._drop_cache()  # it describes a commit that somebody removed, and not the one made now
        try:
            storage.create(path, commit.model_dump_json(indent=1).encode() + b"\n")
        except FileExistsError as error:
            raise CommitExists(f"{path}: unit {commit.unit} is already committed in this generation") from error
        self._parsed.pop((commit.unit, commit.generation), None)
        summary = self._summaries[commit.unit] = commit.summary
        return summary

    def generations(self) -> dict[str, int]:
        """unit -> highest committed generation, from the file names alone."""
        highest: dict[str, int] = {}
        for unit, generation in self._names():
            if generation > highest.get(unit, -1):
                highest[unit] = generation
        return highest

    def names(self) -> list[tuple[str, int]]:
        """(unit, generation) of every commit, sorted. Raises InputError when this is no dataset."""
        return sorted(self._names())

    def read(self, unit: str, generation: int) -> Commit:
        """One commit. Raises CommitUnreadable, naming the file, when it is truncated or garbled."""
        known = self._parsed.get((unit, generation))
        if known is None:
            known = self._parsed[unit, generation] = self._read(unit, generation)
        return known

    def load(self) -> list[Commit]:
        """Every commit of every generation, sorted by unit and generation."""
        return [self.read(unit, generation) for unit, generation in self.names()]

    def winners(self) -> dict[str, Commit]:
        """unit -> the commit of its highest generation, sorted by unit; older generations are not opened."""
        return {unit: self.read(unit, generation) for unit, generation in sorted(self.generations().items())}

    def summaries(self) -> dict[str, CommitSummary]:
        """unit -> what its winning commit comes to, sorted by unit: `winners()` in little memory and time.

        Names come from the folder, as ever; values that are not known yet come from the cache, or else from the commit.
        Raises InputError when this is no dataset, CommitUnreadable for a damaged commit that no cache knows.
        """
        self._known_cache()
        found: dict[str, CommitSummary] = {}
        for unit, generation in sorted(self.generations().items()):
            summary = self._summaries.get(unit)
            if summary is None or summary.generation != generation:
                parsed = self._parsed.get((unit, generation))
                summary = (parsed or self._read(unit, generation)).summary
            found[unit] = summary
        self._summaries = dict(found)
        return found

    def compact(self, finished: bool = False) -> bool:
        """Write the cache anew if that is worth it: enough commits are not in it, or it has some that are gone; when
        the caller has `finished`, also for fewer, unless the dataset is small.

        The caller holds the run lock. Call it after `summaries`, and from time to time. A disk that refuses is no
        error, since nothing depends on a cache. Returns whether it was written.
        """
        cached, known = self._known_cache(), self._summaries
        missing = sum(cached.get(unit) != summary.generation for unit, summary in known.items())
        gone = any(unit not in known or known[unit].generation < generation for unit, generation in cached.items())
        grown = missing >= max(CACHE_AT_LEAST, len(cached) // 4)
        if not gone and not grown and not (finished and missing and len(known) >= CACHE_AT_LEAST):
            return False
        try:
            write_cache(self._cache, known.values())
        except OSError:
            return False
        self._cached = {unit: summary.generation for unit, summary in known.items()}
        return True

    def _names(self) -> Iterator[tuple[str, int]]:
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if (name := layout.parse_commit(entry.name)) is not None:
                        yield name
        except FileNotFoundError as error:
            raise InputError(f"{self._root}: no dataset here (folder {layout.COMMITS} is missing)") from error

    def _known_cache(self) -> dict[str, int]:
        if self._cached is None:
            cached = read_cache(self._cache)
            self._cached = {unit: summary.generation for unit, summary in cached.items()}
            self._summaries = cached | self._summaries  # what was committed here is newer
        return self._cached

    def _drop_cache(self) -> None:
        with suppress(FileNotFoundError):
            self._cache.unlink()
            storage.fsync_folder(self._cache.parent)  # before the new commit, so that no crash brings it back
        self._cached = {}

    def _read(self, unit: str, generation: int) -> Commit:
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
        return commit

    def _check_files(self, commit: Commit) -> None:
        for file in commit.files:
            path = self._root / file.name
            try:
                status = path.stat() if layout.is_relative(file.name) else None
            except (FileNotFoundError, NotADirectoryError):
                status = None
            if status is None or not stat.S_ISREG(status.st_mode):
                raise ShardMissing(f"{path}: not there, so unit {commit.unit} cannot be committed")
            if status.st_size != file.bytes:
                raise ShardMissing(
                    f"{path}: {status.st_size} bytes, but the receipt of unit {commit.unit} says {file.bytes}"
                )

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
