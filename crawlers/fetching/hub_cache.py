"""The hub client's cache folder, as far as we add to it: verified hashes, receipts of whole downloads, shared blobs.

The client keeps `models--OWNER--NAME/{blobs,snapshots/COMMIT,refs,trees}`, names a blob by its hash (sha256 of an LFS
file, git's own of another) and links to it from the snapshots. What we add lies in `models--OWNER--NAME/commforge/`,
so that it goes when the repo is removed, and in `.locks/`. All of it can be deleted at any time: it is made again.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from crawlers.fetching.file_locks import cache_locks, locked
from crawlers.hub.remote_file import RemoteFile
from manifests.errors import InputError, system_words
from shards.identifiers import sha256_file

NOTES = "commforge"
"""Folder in a repo's part of the cache that holds what we note about it."""
OURS = "ours"
"""Empty file among the notes of a repo that nobody but us has brought here; only such repos are ever evicted."""
USED = "used"
"""Empty file among the notes; its time of change is when a process of ours last used the repo."""


def default_cache_dir() -> Path:
    """Return the hub client's own cache folder (`HF_HUB_CACHE`)."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def usable_cache(cache_dir: Path | None) -> Path:
    """Return the cache folder, made if need be; None is the hub client's own. It need not be writable.

    Raises:
        InputError: it is no folder, and cannot be made one.
    """
    root = (cache_dir or default_cache_dir()).expanduser().absolute()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"hub.cache: cannot use {root}: {system_words(error)}") from error
    return root


def is_writable(root: Path) -> bool:
    """True if files may be made in the cache; without that, what is complete can still be used."""
    return os.access(root, os.W_OK | os.X_OK)


def repo_folder(repo_id: str) -> str:
    """Return the name of a model repo's folder in the cache."""
    return f"models--{repo_id.replace('/', '--')}"


class RepoCache:
    """One model repo's part of the cache."""

    def __init__(self, cache_dir: Path, repo_id: str) -> None:
        self.cache_dir = cache_dir
        self.folder = cache_dir / repo_folder(repo_id)
        self.blobs = self.folder / "blobs"
        self._notes = self.folder / NOTES

    def snapshot(self, revision: str) -> Path:
        """Return the folder that holds the repo's files at a commit."""
        return self.folder / "snapshots" / revision

    def blob(self, file: RemoteFile) -> Path:
        """Return where the client keeps the bytes of a file."""
        return self.blobs / file.digest_name

    def partial(self, file: RemoteFile) -> Path:
        """Return where the bytes of a file are gathered; the client gives its own partial files random names."""
        return self.blobs / f"{file.digest_name}.commforge.incomplete"

    def begin(self) -> None:
        """Make the folder. It is ours if nobody had brought anything of the repo before."""
        if not self.folder.exists():
            # Moved there with its mark: a kill in between must not leave a folder that nobody owns.
            made = cache_locks(self.cache_dir) / "new" / f"{self.folder.name}-{os.getpid()}"
            (made / NOTES).mkdir(parents=True, exist_ok=True)
            for mark in (OURS, USED):
                (made / NOTES / mark).touch()
            made.rename(self.folder)
        self._notes.mkdir(exist_ok=True)
        self.blobs.mkdir(exist_ok=True)

    def touch(self) -> None:
        """Note that the repo is used now."""
        if os.access(self._notes, os.W_OK):
            with suppress(FileNotFoundError):  # removed by the user meanwhile
                (self._notes / USED).touch()

    def receipt(self, revision: str, order: str) -> tuple[RemoteFile, ...] | None:
        """Return the files of a finished download of this order, None if there was none."""
        content = _read_json(self._notes / f"{revision}-{order}.json")
        return tuple(RemoteFile(**file) for file in content["files"]) if content else None

    def finished(self, revision: str, order: str, *, read: bool = False) -> tuple[RemoteFile, ...] | None:
        """Return the files of a finished download if all of them are intact still (see `is_intact`), else None."""
        files = self.receipt(revision, order)
        if files is None or not all(self.is_intact(revision, file, read=read) for file in files):
            return None
        return files

    def brought_for_others(self, revision: str, order: str) -> set[str]:
        """Return the names of blobs that finished downloads of other orders brought, and none of this order did."""
        receipts = {path.name: _read_json(path) or {"files": []} for path in self._notes.glob("*.json")}
        own = receipts.pop(f"{revision}-{order}.json", {"files": []})
        names = {RemoteFile(**file).digest_name for receipt in receipts.values() for file in receipt["files"]}
        return names - {RemoteFile(**file).digest_name for file in own["files"]}

    def write_receipt(self, revision: str, order: str, files: Iterable[RemoteFile]) -> None:
        """Note that every one of `files` is there and verified."""
        _write_json(self._notes / f"{revision}-{order}.json", {"files": [file.as_dict() for file in files]})

    def is_intact(self, revision: str, file: RemoteFile, *, read: bool = True) -> bool:
        """True if the file is there with the size and hash that the hub announced.

        A hash is computed once: afterwards an unchanged inode, size and time of change stand for it. Without `read`
        nothing is hashed, and a file that would have to be is not intact.
        """
        return self._is_good(self.snapshot(revision) / file.path, file, read=read)

    def has_blob(self, file: RemoteFile) -> bool:
        """True if a blob of this repo holds the file's bytes, verified as by `is_intact`."""
        return self._is_good(self.blob(file), file, read=True)

    def _is_good(self, path: Path, file: RemoteFile, *, read: bool) -> bool:
        try:
            state = _state(path)
        except OSError:
            return False
        if state["size"] != file.size:
            return False
        if _read_json(self._verified(file)) == state:
            return True
        if not read or not _has_digest(path, file):
            return False
        _write_json(self._verified(file), state)
        return True

    def _verified(self, file: RemoteFile) -> Path:
        return self._notes / "verified" / f"{file.digest_name}.json"

    def discard(self, revision: str, file: RemoteFile) -> None:
        """Remove a file and the blob behind it, so that it is fetched again."""
        path = self.snapshot(revision) / file.path
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        self.blob(file).unlink(missing_ok=True)

    def keep(self, file: RemoteFile, arrived: Path) -> None:
        """Make verified bytes a blob. They are on the disk before the note that says so can be."""
        with arrived.open("rb") as bytes_:
            os.fsync(bytes_.fileno())
        arrived.replace(self.blob(file))
        _write_json(self._verified(file), _state(self.blob(file)))

    def link(self, revision: str, file: RemoteFile) -> None:
        """Make the snapshot's file a link to its blob, as the client does."""
        pointer = self.snapshot(revision) / file.path
        pointer.parent.mkdir(parents=True, exist_ok=True)
        target = os.path.relpath(self.blob(file), pointer.parent)
        with suppress(FileNotFoundError):
            if str(pointer.readlink()) == target:
                return
        pointer.unlink(missing_ok=True)
        pointer.symlink_to(target)

    def adopt(self, file: RemoteFile, holders: Sequence[str]) -> bool:
        """Hard-link a blob that other repos of this cache hold to where the client looks for ours.

        Only verified bytes are taken. `holders` are the names of folders that may hold it.
        """
        return any(self._adopt(self.cache_dir / holder, file) for holder in holders if holder != self.folder.name)

    def _adopt(self, holder: Path, file: RemoteFile) -> bool:
        source = (holder / "blobs" / file.digest_name).resolve()
        try:
            state = _state(source)
            note = _read_json(holder / NOTES / "verified" / f"{file.digest_name}.json")
            if state["size"] != file.size or (note != state and not _has_digest(source, file)):
                return False
            target = self.blob(file)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)  # a dangling link of the client's shared store
            target.hardlink_to(source)
        except OSError:  # another file system, or no hard links on it: the file is fetched instead
            return False
        # Same inode, but linking changed nothing that the note is made of, so the note holds here too.
        _write_json(self._verified(file), state)
        return True

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold this repo against other downloads into the same cache."""
        with locked(repo_lock(self.cache_dir, self.folder.name)):
            yield


def repo_lock(cache_dir: Path, folder: str) -> Path:
    """Return the lock file that a download into a repo's folder holds."""
    return cache_locks(cache_dir) / f"{folder}.lock"


@contextmanager
def locked_blobs(cache_dir: Path, digests: Iterable[str]) -> Iterator[None]:
    """Hold blobs against other downloads of the same bytes, whatever repo they are for.

    They are locked in one order everywhere, so no two downloads can wait for each other.
    """
    with ExitStack() as stack:
        for digest in sorted(set(digests)):
            stack.enter_context(locked(cache_locks(cache_dir) / f"blob-{digest}.lock"))
        yield


def _state(path: Path) -> dict[str, int]:
    stat = path.stat()
    return {"device": stat.st_dev, "inode": stat.st_ino, "size": stat.st_size, "changed": stat.st_mtime_ns}


def _has_digest(path: Path, file: RemoteFile) -> bool:
    if file.sha256 is not None:
        return sha256_file(path) == file.sha256
    if file.blob_id is None:
        return True
    digest = file.new_digest()
    digest.update(path.read_bytes())
    return digest.hexdigest() == file.blob_id


def _read_json(path: Path) -> Any:
    """Return a note, or None if it is not there or was torn."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    temporary.replace(path)
