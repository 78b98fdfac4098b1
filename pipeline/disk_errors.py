"""A disk that is full or may not be used is the user's to mend: no fault of a model, and no bug of ours."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from manifests.errors import FULL, InputError

_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})


def is_full(error: OSError) -> bool:
    """True if a disk or a quota has no room left."""
    return error.errno in FULL


@contextmanager
def disk_refusals(*folders: Path) -> Iterator[None]:
    """Run the block, which reads and writes below `folders`; a refusal of the disk becomes the user's to mend.

    Raises:
        InputError: a disk or quota is full, or a file may not be read or written; it names the file, or else the
            folders.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL | _FORBIDDEN | {errno.EROFS}:
            raise
        path = error.filename2 or error.filename
        where = os.fsdecode(path) if path else " or ".join(map(str, folders))
        what, mend = "cannot be written", "make it writable"
        if error.errno in FULL:
            mend = "free space"
        elif error.errno in _FORBIDDEN and path:
            what, mend = _forbidden(Path(where))
        raise InputError(
            f"{where}: {what}: {error.strerror or error}; {mend}, then run the same command again"
        ) from error


def _forbidden(path: Path) -> tuple[str, str]:
    """Return what was not allowed with a file or folder, and what would help.

    The error does not say whether it was reading or writing; what is allowed now does.
    """
    if not _may(path.parent, os.X_OK):
        return "cannot be reached", "make its folders accessible"
    if not os.path.lexists(path):  # one that is absent may be read in vain, but only making it is forbidden
        return "cannot be written", "make its folder writable"
    if not _may(path, os.R_OK) or (path.is_dir() and not _may(path, os.X_OK)):
        return "cannot be read", "make it readable"
    if not _may(path, os.W_OK) or not _may(path.parent, os.W_OK):
        return "cannot be written", "make it writable"
    return "cannot be read or written", "allow both"


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)
