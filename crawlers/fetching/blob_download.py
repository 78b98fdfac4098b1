"""The bytes of one file, from the hub to the disk: hashed as they come, taken up again where they ended.

The hub client does the same over plain HTTP with four differences that matter here: it asks for each file twice (HEAD,
then GET), leaves the hash to be computed by reading everything again, throws away what has arrived when its process
dies, and writes on when more comes than was announced.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crawlers.hub.hub_client import LIBRARY, HubClient
from crawlers.hub.hub_errors import HubBusyError, HubError
from crawlers.hub.remote_file import RemoteFile
from crawlers.hub.retrying import RetryPolicy

if TYPE_CHECKING:
    from hashlib import _Hash

    import httpx2

_BLOCK = 1 << 20
_READ_SECONDS = 30.0


class StoppedError(Exception):
    """The download was told to end: another file of the order has failed."""


class WrongBytesError(Exception):
    """What came is not what was announced; nothing of it is kept."""


class BlobDownloads:
    """Fetches blobs for one order; safe to share between threads.

    Attributes:
        fetched: bytes of bodies that came from the hub so far.
    """

    def __init__(self, client: HubClient, policy: RetryPolicy) -> None:
        self._client, self._policy = client, policy
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self.fetched = 0

    def stop(self) -> None:
        """Let every download of these end soon."""
        self._stopped.set()

    def fetch(self, repo_id: str, revision: str, file: RemoteFile, partial: Path) -> None:
        """Gather the file's bytes in `partial`, after what an earlier download has left there, and verify them.

        As long as each round of attempts brings bytes, there is another: a file that is cut off every few hundred
        megabytes arrives.

        Raises:
            WrongBytesError: another hash, or more bytes than announced; `partial` is removed.
            HubError: as the hub answered, after all attempts; `partial` stays if it can be gone on with.
            StoppedError: after `stop`.
        """
        from huggingface_hub import hf_hub_url

        url = hf_hub_url(repo_id, file.path, revision=revision, endpoint=self._client.endpoint)
        bucket = self._client.limits.bucket_of(url)
        while True:
            before = _size(partial)
            try:
                digest = self._policy.call(
                    lambda: self._ask(url, file, partial),
                    self._client.token,
                    sleep=self._client.limits.sleep,
                    refused=lambda seconds: self._client.limits.refused(bucket, seconds),
                )
            except HubError as error:
                if error.transient and _size(partial) > before:
                    continue
                raise
            break
        if not file.is_digest(digest):
            partial.unlink()
            raise WrongBytesError(file.path)

    def _ask(self, url: str, file: RemoteFile, partial: Path) -> "_Hash":
        """Ask once for what is missing, and return the hash of all."""
        bucket = self._client.limits.bucket_of(url)
        digest, have = file.new_digest(), 0
        if file.sha256 is not None:  # small files are asked for whole: the hub may send them compressed
            have = _hash_what_is_there(partial, file, digest)
        if have == file.size and partial.exists():
            return digest
        self._client.limits.wait(bucket)
        with self._stream(url, have) as response:
            self._client.limits.heard(bucket, response.headers)
            if response.status_code != 206:
                digest, have = file.new_digest(), 0
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                partial.unlink()
                raise HubBusyError(f"{file.path}: another range than was asked for")
            self._write(response, file, partial, digest, have)
        return digest

    @contextmanager
    def _stream(self, url: str, have: int) -> Iterator["httpx2.Response"]:
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        headers: dict[str, Any] = dict(build_hf_headers(token=self._client.token or False, library_name=LIBRARY))
        if have:
            headers |= {"Range": f"bytes={have}-", "Accept-Encoding": "identity"}
        with get_session().stream("GET", url, headers=headers, timeout=_READ_SECONDS) as response:
            if response.status_code >= 400:
                response.read()
            hf_raise_for_status(response)
            yield response

    def _write(self, response: "httpx2.Response", file: RemoteFile, partial: Path, digest: "_Hash", have: int) -> None:
        with partial.open("r+b" if have else "wb") as target:
            target.seek(have)
            for chunk in response.iter_bytes():
                if self._stopped.is_set():
                    raise StoppedError
                with self._lock:
                    self.fetched += len(chunk)
                have += len(chunk)
                if have > file.size:  # never more on the disk than was reserved
                    break
                target.write(chunk)
                digest.update(chunk)
        if have > file.size:
            partial.unlink()
            raise WrongBytesError(file.path)
        if have < file.size:
            raise HubBusyError(f"{file.path}: ended after {have} of {file.size} bytes")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _hash_what_is_there(partial: Path, file: RemoteFile, digest: "_Hash") -> int:
    """Feed the hash with what was gathered before and return how many bytes that is."""
    if _size(partial) > file.size:
        partial.unlink()
    have = 0
    if partial.exists():
        with partial.open("rb") as source:
            while chunk := source.read(_BLOCK):
                digest.update(chunk)
                have += len(chunk)
    return have
