"""Locks that end with the process that holds them, however it ends: flock on files of the cache."""

import fcntl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def cache_locks(cache_dir: Path) -> Path:
    """Return the folder of our own lock files: below `.locks`, which other tools that read the cache pass over."""
    return cache_dir / ".locks" / "commforge"


def open_lock(path: Path) -> IO[bytes]:
    """Open a lock file, made if it is not there. Closing it ends the lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("ab")


def try_lock(path: Path) -> IO[bytes] | None:
    """Return the file, locked against everybody, or None if somebody holds it."""
    file = open_lock(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file against everybody, after waiting for it."""
    with open_lock(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_held(path: Path) -> bool:
    """True if some process holds the lock file, shared or alone. A file that is not there is held by nobody."""
    if not path.exists():
        return False
    file = try_lock(path)
    if file is None:
        return True
    file.close()
    return False


class Pins:
    """Keep repos of the cache from eviction until they are taken out, or until this process has ended.

    Any number of processes may pin a repo. An evictor holds the same file alone, for the moment that it takes to
    move the repo away; a pin waits for that moment.
    """

    def __init__(self, cache_dir: Path, folders: Iterable[str]) -> None:
        """Pin the repos with these folders, whether they are there or not."""
        self._files = [open_lock(pin_file(cache_dir, folder)) for folder in sorted(set(folders))]
        for file in self._files:
            fcntl.flock(file, fcntl.LOCK_SH)

    def out(self) -> None:
        """Take the pins out; a second time does nothing."""
        while self._files:
            file = self._files.pop()
            # Not by closing alone: a child that was forked meanwhile has the same open file, and with it the lock.
            fcntl.flock(file, fcntl.LOCK_UN)
            file.close()


def pin_file(cache_dir: Path, folder: str) -> Path:
    """Return the lock file behind the pins of a repo's folder."""
    return cache_locks(cache_dir) / f"{folder}.pin"
