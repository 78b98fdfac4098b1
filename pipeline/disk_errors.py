"""A disk that is full or may not be written is the user's to mend: no fault of a model, and no bug of ours."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from manifests.errors import InputError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


def is_full(error: OSError) -> bool:
    """True if a disk or a quota has no room left."""
    return error.errno in _FULL


@contextmanager
def disk_refusals(*folders: Path) -> Iterator[None]:
    """Run the block, which writes below `folders`; a refusal of the disk becomes the user's to mend.

    Raises:
        InputError: a disk or quota is full, or a file may not be written; it names the file, or else the folders.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL | _FORBIDDEN:
            raise
        where = error.filename2 or error.filename or " or ".join(map(str, folders))
        mend = "free space" if error.errno in _FULL else "make it writable"
        raise InputError(
            f"{where}: cannot be written: {error.strerror or error}; {mend}, then run the same command again"
        ) from error
