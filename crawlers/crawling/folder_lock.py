"""One crawl at a time in a folder."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from manifests.errors import InputError, system_words


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make the folder and keep other crawls out of it; the lock ends with this process, however that ends.

    Raises:
        InputError: another crawl is writing there, or nobody can.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".catalog.lock").open("wb")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {system_words(error)}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{folder}: another crawl is writing here; wait for it or choose another") from error
        yield
