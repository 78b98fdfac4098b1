"""One driver at a time: an advisory lock on a dataset, held by the kernel and freed by it when the holder dies.

flock on `<root>/.run.lock`. The file stays when the lock is released (removing it would let two processes lock two
different files of the same name); it names the last holder.

`lock_holder` asks whether a run is at work without being in its way: it takes a shared lock for an instant, which never
meets another asker's, and a starter that meets it tries again.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from manifests.errors import InputError
from shards import layout, storage

PATIENCE_SECONDS = 0.5
"""How long a starter tries: whoever holds the lock for longer is no asker."""
_PAUSE_SECONDS = 0.01


class RunLockHeld(InputError):  # noqa: N818
    """Another process holds the lock; `pid` and `host` name it (None when it has not written them yet)."""

    def __init__(self, path: Path, pid: int | None, host: str | None) -> None:
        holder = "another process" if pid is None else f"process {pid} on {host}"
        super().__init__(f"{path}: held by {holder}; wait for it to end, or stop it, and run this again")
        self.pid = pid
        self.host = host


@dataclass(frozen=True, slots=True)
class LockHolder:
    """The process that holds a run lock; None where it has not written its name yet."""

    pid: int | None
    host: str | None


def lock_holder(root: Path) -> LockHolder | None:
    """Who holds the lock of a dataset now, or None when nobody does or there is none. Takes nothing away from anybody.

    Raises InputError when the lock file may not be read.
    """
    path = storage.local_root(root) / layout.LOCK
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return LockHolder(*_holder(descriptor))
    finally:
        os.close(descriptor)
    return None


class RunLock:
    """The lock of a dataset. `acquire` and `release`, or a context manager. Not reentrant: a second lock on the same
    dataset is refused in the same process too."""

    def __init__(self, root: Path) -> None:
        self.path = storage.local_root(root) / layout.LOCK
        self._descriptor: int | None = None

    def acquire(self) -> RunLock:
        """Take the lock, trying for `PATIENCE_SECONDS`. Raises RunLockHeld, or InputError when the folder is absent or
        read-only."""
        if self._descriptor is not None:
            raise RunLockHeld(self.path, os.getpid(), socket.gethostname())
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except (FileNotFoundError, PermissionError) as error:
            raise InputError(f"{self.path}: cannot be opened for locking: {error.strerror}") from error
        try:
            self._lock(descriptor)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        _HELD.add(self)
        return self

    def _lock(self, descriptor: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise RunLockHeld(self.path, *_holder(descriptor)) from error
            except OSError as error:
                raise InputError(
                    f"{self.path}: this file system has no flock ({error.strerror}), which a run needs"
                ) from error
            time.sleep(_PAUSE_SECONDS)

    def release(self) -> None:
        """Give the lock back; harmless when it is not held."""
        _HELD.discard(self)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> RunLock:
        return self if self._descriptor is not None else self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _holder(descriptor: int) -> tuple[int | None, str | None]:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return int(holder["pid"]), str(holder["host"])
    except (ValueError, KeyError, TypeError):  # the holder is between locking and writing
        return None, None


_HELD: weakref.WeakSet[RunLock] = weakref.WeakSet()


def _forget_in_child() -> None:
    """A forked child shares the lock and would keep it after its parent's death, so it closes its copy."""
    for lock in list(_HELD):
        lock.release()


os.register_at_fork(after_in_child=_forget_in_child)
