"""A cache folder that never holds more than its budget, whatever processes fetch into it and whenever they die.

Three things make that true. Room is reserved before the first byte is asked for (`reservations`); what is there is
measured, not booked (`cache_contents`); and both happen under one lock that all processes of the cache share. What is
in use is pinned (`file_locks.Pin`); of the rest the least recently used goes. What other tools brought counts and is
never touched.
"""

import shutil
import uuid
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from crawlers.fetching.cache_contents import CacheContents, Inode, Part, total_bytes
from crawlers.fetching.eviction import choose_evictions
from crawlers.fetching.file_locks import cache_locks, is_held, locked, pin_file, try_lock
from crawlers.fetching.hub_cache import repo_lock
from crawlers.fetching.reservations import Claim, Reservation, Reservations


class NoRoomError(Exception):
    """The claim does not fit.

    Attributes:
        ever: False if it does not fit even when nothing else is in use.
        others: bytes in the cache that are not ours to remove.
    """

    def __init__(self, detail: str, *, ever: bool, others: int) -> None:
        super().__init__(detail)
        self.detail, self.ever, self.others = detail, ever, others


@dataclass(frozen=True)
class _Measured:
    """What the cache holds, and what it will hold when every promise is kept."""

    parts: dict[str, Part]
    covered: frozenset[Inode]
    bytes: int


class DiskBudget:
    """Grants claims on a cache folder of limited size. Sizes are those of files; a file system needs a little more."""

    def __init__(self, cache_dir: Path, limit: int, contents: CacheContents) -> None:
        """Args: `limit` in bytes; `contents` of the same folder."""
        self._cache_dir, self.limit, self._contents = cache_dir, limit, contents
        self._reservations = Reservations(cache_dir)
        self._trash = cache_locks(cache_dir) / "trash"

    def reserve(self, claim: Claim, targets: Collection[str]) -> Reservation:
        """Promise room for a claim, after removing what must go for it.

        Args:
            targets: folders of the repos that the claim is for; the caller has pinned them.

        Raises:
            NoRoomError: what would have to go is in use or not ours; nothing was removed.
        """
        with locked(cache_locks(self._cache_dir) / "budget.lock"):
            self._empty_trash()
            measured = self._measure()
            if measured.bytes + claim.bytes > self.limit:
                self._sweep_partials(measured.parts)
                measured = self._measure()
            needed = measured.bytes + claim.bytes - self.limit
            if needed > 0:
                self._evict(measured, needed, claim, targets)
            return self._reservations.grant(claim)

    def _measure(self) -> _Measured:
        self._contents.refresh()
        parts = self._contents.parts
        claims = self._reservations.living()
        covered = frozenset(
            inode
            for claim in claims
            for name in claim.folders & parts.keys()
            for blob, inode in parts[name].blobs.items()
            if claim.covers(name, blob)
        )
        inodes: dict[Inode, int] = {}
        for part in parts.values():
            inodes |= part.inodes
        held = sum(inodes.values()) - sum(inodes[inode] for inode in covered)
        return _Measured(parts, covered, held + sum(claim.bytes for claim in claims))

    def _evict(self, measured: _Measured, needed: int, claim: Claim, targets: Collection[str]) -> None:
        parts = measured.parts
        old = sorted((part.used, name) for name, part in parts.items() if part.ours and name not in targets)
        free = [name for _, name in old if not self._in_use(name, parts[name])]
        chosen = choose_evictions(parts, free, needed, measured.covered)
        if not chosen:
            raise self._no_room(parts, needed, claim, targets)
        moved = sum(self._remove(name) for name in chosen)
        self._empty_trash()
        if moved < len(chosen):  # pinned since we looked: whatever went is gone, the caller asks again
            raise NoRoomError("a model came into use just now", ever=True, others=0)

    def _no_room(self, parts: dict[str, Part], needed: int, claim: Claim, targets: Collection[str]) -> NoRoomError:
        others = total_bytes(part for part in parts.values() if not part.ours)
        fixed = total_bytes(part for name, part in parts.items() if not part.ours or name in targets)
        ever = fixed + claim.bytes <= self.limit
        what = "the models in use leave" if ever else "it leaves"
        left = max(0, claim.bytes - needed) if ever else max(0, self.limit - fixed)
        return NoRoomError(
            f"{claim.bytes} bytes are to be fetched and, of hub.disk_budget = {self.limit}, {what} {left}"
            + (f"; {others} bytes in the cache were brought by other tools and are never removed" if others else ""),
            ever=ever,
            others=others,
        )

    def _in_use(self, name: str, part: Part) -> bool:
        return is_held(pin_file(self._cache_dir, name)) or any(self._is_written(name, p) for p in part.partials)

    def _remove(self, name: str) -> bool:
        """Move a repo out of the cache; False if somebody has pinned it by now."""
        file = try_lock(pin_file(self._cache_dir, name))
        if file is None:
            return False
        with file, suppress(FileNotFoundError):
            # Moved first: at every moment a repo is there whole or not at all.
            self._trash.mkdir(parents=True, exist_ok=True)
            (self._cache_dir / name).rename(self._trash / f"{name}-{uuid.uuid4().hex[:8]}")
        return True

    def _empty_trash(self) -> None:
        if self._trash.exists():
            for folder in self._trash.iterdir():
                shutil.rmtree(folder)

    def _sweep_partials(self, parts: dict[str, Part]) -> None:
        for name, part in parts.items():
            for partial in part.partials:
                if not self._is_written(name, partial):
                    (self._cache_dir / name / "blobs" / partial).unlink(missing_ok=True)

    def _is_written(self, folder: str, partial: str) -> bool:
        return is_written(self._cache_dir, folder, partial)


def is_written(cache_dir: Path, folder: str, partial: str) -> bool:
    """True if a living process may write to a partial file: it holds our lock of the repo, or the client's of the blob.

    The locks say it for sure, where the age of a file does not: a hub may let a download wait for minutes.
    """
    client = cache_dir / ".locks" / folder / f"{partial.split('.', 1)[0]}.lock"
    return is_held(repo_lock(cache_dir, folder)) or is_held(client)


def sweep_partials(cache_dir: Path, folder: str, partials: Iterable[Path], keep: Sequence[str]) -> None:
    """Remove partial files of a repo that nobody writes and nobody will go on with.

    Args:
        keep: names of files that the caller, who holds our lock of the repo, goes on with.
    """
    for partial in partials:
        client = cache_dir / ".locks" / folder / f"{partial.name.split('.', 1)[0]}.lock"
        if partial.name not in keep and not is_held(client):
            partial.unlink(missing_ok=True)
