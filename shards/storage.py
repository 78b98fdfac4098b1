"""Every touch of the file system that the dataset's safety rests on, in one place.

Today a dataset lives on a local (or locally mounted) POSIX file system. Three operations carry the commit protocol, and
an object store would supply its own three: `publish` (a whole file appears under its name, or nothing does), `create`
(exactly one of any number of racers makes a name) and `replace` (a reader sees the old bytes or the new ones).
All three survive a power cut once they have returned: the data is synced before the name, and the folder after it.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from manifests.errors import InputError

_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:/")  # two letters at least: "C:/" is a drive. Path() folds "//" to "/"
_TEMPORARY = re.compile(r"^\..+\.[0-9a-f]{16}\.tmp$")
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}


def local_root(root: str | os.PathLike[str]) -> Path:
    """The folder `root` as a path. Raises InputError for a URL: no object store is supported."""
    text = os.fspath(root)
    if _URL.match(text):
        raise InputError(
            f"dataset {text!r}: a dataset must be a folder on a local or mounted file system with hard links and "
            "flock; object stores and other URLs (s3://, gs://, az://, file://, ...) are not supported"
        )
    return Path(text)


def temporary_beside(path: Path) -> Path:
    """A fresh hidden name in the folder of `path`, recognised by `is_temporary`."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def is_temporary(name: str) -> bool:
    """Whether a file of this name is a temporary of this module, left behind if its process died."""
    return _TEMPORARY.match(name) is not None


def fsync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_file(path: Path) -> None:
    """Make the bytes of `path` durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create `folder` and its parents durably; nothing happens when it exists. Raises InputError for a file."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):  # another worker was faster
        folder.mkdir()
    if not folder.is_dir():
        raise InputError(f"{folder}: is a file, but a folder is needed here")
    fsync_folder(folder.parent)


def publish(source: Path, target: Path) -> None:
    """Move the finished file `source` to `target`, durably and whole; the folder of `target` is made if needed.

    On one file system this is fsync + rename. Across file systems the bytes go to a temporary beside `target` first, so
    a half-copied file never has the final name. An existing `target` is replaced: a content name means equal bytes.
    """
    make_folder(target.parent)
    fsync_file(source)
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy = temporary_beside(target)
        try:
            shutil.copyfile(source, copy)
            fsync_file(copy)
            copy.replace(target)
        except BaseException:
            copy.unlink(missing_ok=True)
            raise
        source.unlink()
    fsync_folder(target.parent)


def create(path: Path, data: bytes) -> None:
    """Make `path` with these bytes, durably, if no file of that name exists. Of any number of racers one succeeds.

    A fully written temporary is linked to the name: `link` fails when the name exists, and no reader can see a partial
    file. Raises FileExistsError, or InputError when the file system has no hard links.
    """
    temporary = temporary_beside(path)
    try:
        _write_durably(temporary, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            if temporary.stat().st_nlink != 2:  # else ours: NFS repeated a request whose answer was lost
                raise
        except OSError as error:
            if error.errno in _NO_LINKS:
                raise InputError(
                    f"{path.parent}: this file system cannot make hard links ({error.strerror}), which commits need; "
                    "put the dataset on a local POSIX file system or NFS"
                ) from error
            raise
    finally:
        temporary.unlink(missing_ok=True)
    fsync_folder(path.parent)


def replace(path: Path, data: bytes) -> None:
    """Give `path` these bytes, durably and at once: a reader sees the old file or the new one."""
    temporary = temporary_beside(path)
    try:
        _write_durably(temporary, data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_folder(path.parent)


def files_below(root: Path) -> Iterator[str]:
    """Names of all files below `root`, relative to it, with "/" between parts, in no order. Links are not followed."""
    folders = [""]
    while folders:
        prefix = folders.pop()
        try:
            with os.scandir(root / prefix) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(f"{prefix}{entry.name}/")
                    else:
                        yield prefix + entry.name
        except FileNotFoundError:
            if not prefix:
                raise


def last_change(path: Path) -> float:
    """When the file's bytes or name last changed, in seconds since the epoch: a rename keeps the time of the bytes."""
    status = path.stat()
    return max(status.st_mtime, status.st_ctime)


def read_range(path: Path, offset: int, length: int) -> bytes:
    """`length` bytes of `path` from `offset`, or fewer where the file ends. Raises OSError when it cannot be read."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return read_range_of(descriptor, offset, length)
    finally:
        os.close(descriptor)


def read_range_of(descriptor: int, offset: int, length: int) -> bytes:
    """The same from an open file, leaving its position alone (safe to share between threads)."""
    data = os.pread(descriptor, length, offset)
    while len(data) < length:  # one call reads at most 2 GiB
        more = os.pread(descriptor, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
