"""Small disks of our own, to fill to the last byte: a tmpfs for each folder that a run writes to."""

import ctypes
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

_LIBC = ctypes.CDLL(None, use_errno=True)
_BALLAST = "ballast"


class SmallDisk:
    """A tmpfs mounted on a folder while the ``with`` block lasts."""

    def __init__(self, folder: Path, mebibytes: int) -> None:
        self.folder = folder
        self._options = f"size={mebibytes}m"

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        mounted = _LIBC.mount(b"tmpfs", os.fsencode(self.folder), b"tmpfs", 0, self._options.encode())
        if mounted != 0:
            raise OSError(ctypes.get_errno(), f"cannot mount a tmpfs: {os.strerror(ctypes.get_errno())}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        detach = 2  # a process that still has a file open keeps it, the folder is free at once
        _LIBC.umount2(os.fsencode(self.folder), detach)

    def fill(self) -> None:
        """Leave no byte free."""
        with (self.folder / _BALLAST).open("ab") as ballast:
            while free := os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_frsize:
                start = ballast.seek(0, os.SEEK_END)
                try:
                    os.posix_fallocate(ballast.fileno(), start, free)
                except OSError:  # somebody wrote meanwhile
                    continue

    def relieve(self) -> None:
        """Give back what `fill` took."""
        (self.folder / _BALLAST).unlink(missing_ok=True)


def why_no_disks() -> str | None:
    """Return why this process cannot mount a tmpfs, None when it can."""
    if sys.platform != "linux":
        return "only Linux has tmpfs"
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        try:
            stack.enter_context(SmallDisk(Path(folder) / "disk", 1))
        except OSError as error:
            return error.strerror
    return None
