"""The hub client's cache folder, as far as we add to it: verified hashes, receipts of whole downloads, shared blobs.

The client keeps `models--OWNER--NAME/{blobs,snapshots/COMMIT,refs,trees}` and names an LFS blob by its sha256. What we
add lies in `models--OWNER--NAME/commforge/`, so that it goes when the repo is removed, and in `.locks/`. All of it can
be deleted at any time: it is made again.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from crawlers.remote_file import RemoteFile
from shards.identifiers import sha256_file


def default_cache_dir() -> Path:
    """Return the hub client's own cache folder (`HF_HUB_CACHE`)."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


class RepoCache:
    """One model repo's part of the cache."""

    def __init__(self, cache_dir: Path, repo_id: str) -> None:
        self.cache_dir = cache_dir
        self.folder = cache_dir / f"models--{repo_id.replace('/', '--')}"
        self.blobs = self.folder / "blobs"
        self._notes = self.folder / "commforge"

    def snapshot(self, revision: str) -> Path:
        """Return the folder that holds the repo's files at a commit."""
        return self.folder / "snapshots" / revision

    def receipt(self, revision: str, order: str) -> tuple[RemoteFile, ...] | None:
        """Return the files of a finished download of this order, None if there was none."""
        content = _read_json(self._notes / f"{revision}-{order}.json")
        return tuple(RemoteFile(**file) for file in content["files"]) if content else None

    def write_receipt(self, revision: str, order: str, files: Iterable[RemoteFile]) -> None:
        """Note that every one of `files` is there and verified."""
        _write_json(self._notes / f"{revision}-{order}.json", {"files": [file.as_dict() for file in files]})

    def is_intact(self, revision: str, file: RemoteFile, *, read: bool = True) -> bool:
        """True if the file is there with the size and hash that the hub announced.

        A hash is computed once: afterwards an unchanged inode, size and time of change stand for it. Without `read`
        nothing is hashed, and a file that would have to be is not intact.
        """
        path = self.snapshot(revision) / file.path
        try:
            state = _state(path)
        except OSError:
            return False
        if state["size"] != file.size:
            return False
        note = self._notes / "verified" / f"{file.digest_name}.json"
        if _read_json(note) == state:
            return True
        if not read or not _has_digest(path, file):
            return False
        _write_json(note, state)
        return True

    def discard(self, revision: str, file: RemoteFile) -> None:
        """Remove a file and the blob behind it, so that it is fetched again."""
        path = self.snapshot(revision) / file.path
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    def adopt_blobs(self, files: Iterable[RemoteFile]) -> list[str]:
        """Hard-link blobs that another repo of this cache holds to where the client looks for ours.

        The client asks for a file's hash and downloads nothing when the blob of that name is there. Only blobs whose
        bytes are verified are taken. Returns the hashes that were linked.
        """
        wanted = {f.sha256: f for f in files if f.sha256 and not (self.blobs / f.sha256).exists()}
        linked = []
        for folder in sorted(self.cache_dir.glob("models--*")) if wanted else ():
            if folder == self.folder:
                continue
            for digest, file in list(wanted.items()):
                source = folder / "blobs" / digest
                if source.exists() and self._adopt(source, file):
                    linked.append(digest)
                    del wanted[digest]
            if not wanted:
                break
        return linked

    def _adopt(self, source: Path, file: RemoteFile) -> bool:
        source = source.resolve()
        verified = source.parent.parent / "commforge" / "verified" / f"{file.digest_name}.json"
        try:
            state = _state(source)
            if state["size"] != file.size or (_read_json(verified) != state and not _has_digest(source, file)):
                return False
            self.blobs.mkdir(parents=True, exist_ok=True)
            target = self.blobs / str(file.sha256)
            target.unlink(missing_ok=True)  # a dangling link of the client's shared store
            target.hardlink_to(source)
        except OSError:  # another file system, or no hard links on it: the file is fetched instead
            return False
        # Same inode, but linking changed nothing that the note is made of, so the note holds here too.
        _write_json(self._notes / "verified" / f"{file.digest_name}.json", state)
        return True

    def sweep_partials(self, older_than: float) -> None:
        """Remove partial files that nobody has written to since the time `older_than`: the client never resumes one."""
        for partial in self.blobs.glob("*.incomplete"):
            try:
                if partial.stat().st_mtime < older_than:
                    partial.unlink()
            except FileNotFoundError:
                continue

    @contextmanager
    def locked(self, digests: Iterable[str] = ()) -> Iterator[None]:
        """Hold this repo, or the blobs with these hashes, against other downloads into the same cache.

        Blobs are locked in one order everywhere, so no two downloads can wait for each other. Locks end with the
        process that holds them.
        """
        names = sorted({f"blob-{digest}" for digest in digests}) or [self.folder.name]
        locks = self.cache_dir / ".locks" / "commforge"
        locks.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            for name in names:
                lock = stack.enter_context((locks / f"{name}.lock").open("wb"))
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _state(path: Path) -> dict[str, int]:
    stat = path.stat()
    return {"device": stat.st_dev, "inode": stat.st_ino, "size": stat.st_size, "changed": stat.st_mtime_ns}


def _has_digest(path: Path, file: RemoteFile) -> bool:
    if file.sha256 is not None:
        return sha256_file(path) == file.sha256
    if file.blob_id is None:
        return True
    # Plain git files: git's own name of a blob is the SHA-1 of a header and the bytes.
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
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
