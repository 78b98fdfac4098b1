"""One hub, one token, one way to ask: explicit endpoint and credentials, typed errors, bounded retries.

Nothing is taken from the environment: without a token, no token is sent, so a token for one hub can never reach
another. 429, 5xx and cut connections are asked again; 401, 403 and 404 are answers.
"""

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from crawlers.hub.hub_errors import (
    ClientClosedError,
    HubBusyError,
    HubError,
    HubRefusedError,
    HubUnreachableError,
    check_endpoint,
    redact,
)
from crawlers.hub.rate_limits import RateLimits
from crawlers.hub.remote_file import RemoteFile
from crawlers.hub.retrying import RetryPolicy
from manifests.errors import InputError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

DEFAULT_ENDPOINT = "https://huggingface.co"
LIBRARY = "commforge"
LISTING_LIMIT = 64 * 2**20
"""Bytes of one page of a listing."""
INFO_LIMIT = 64 * 2**20
"""Bytes of what the hub says of one model; a repo may have many thousands of files."""
CONFIG_LIMIT = 4 * 2**20
"""Bytes: no config of a pipeline is larger, and a crawl does not read what is."""

_LISTING = {"filter": "diffusers", "sort": "downloads"}


class Answer(NamedTuple):
    """A body, and the address of the next page of a listing."""

    body: bytes
    next_page: str | None = None


class HubClient:
    """Reads a hub's API. Safe to share between threads.

    Raises (every method):
        HubError: see `crawlers.hub.hub_errors`; transient ones only after all attempts.
    """

    def __init__(
        self,
        endpoint: str = DEFAULT_ENDPOINT,
        token: str | None = None,
        policy: RetryPolicy | None = None,
        request_seconds: float = 30.0,
        *,
        limits: RateLimits | None = None,
    ) -> None:
        """Args:
            limits: those of another client of the same hub and token, to keep them together.

        Raises:
            InputError: `endpoint` is not an address.
        """
        self.endpoint = check_endpoint(endpoint)
        self.token = token
        self.policy = policy or RetryPolicy()
        self.limits = limits or RateLimits()
        self.request_seconds = request_seconds

    def close(self) -> None:
        """End the waits of all threads; what they wait for is not asked any more."""
        self.limits.close()

    def model_info(self, repo_id: str, revision: str | None = None, *, files: bool = True) -> "ModelInfo":
        """Return what the hub knows of a model; with `files` also each file's size and LFS sha256."""
        from huggingface_hub.hf_api import ModelInfo

        answer = _json(self._ask(self._info_url(repo_id, revision, files), INFO_LIMIT).body, repo_id)
        try:
            return ModelInfo(**answer)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise HubRefusedError(f"{repo_id}: the hub's answer cannot be read: {error!r}") from error

    def whoami(self) -> dict[str, Any]:
        """Return what the hub knows of the token's owner.

        The hub limits this call more than others: `doctor` asks it once, a crawl never.
        """
        answer = _json(self._ask(f"{self.endpoint}/api/whoami-v2", CONFIG_LIMIT).body, "the token's owner")
        if not isinstance(answer, dict):
            raise HubRefusedError("the hub's answer about the token cannot be read")
        return answer

    def check_answers(self) -> None:
        """Ask for one entry of the listing: whether it is one repo that makes trouble, or the hub.

        Raises:
            HubUnreachableError: the hub.
        """
        query = urlencode({**_LISTING, "limit": 1})
        try:
            self._ask(f"{self.endpoint}/api/models?{query}", LISTING_LIMIT)
        except ClientClosedError:
            raise
        except HubError as error:
            raise HubUnreachableError(error.detail, retry_after=error.retry_after) from error

    def listing_pages(self, cursor: str | None = None, page_size: int = 1000) -> Iterator[tuple[list[Any], str | None]]:
        """Yield pages of all diffusers models, most downloaded first: (entries, cursor of the next page).

        `HfApi.list_models` asks the same; it cannot be stopped and taken up again at a page, which a crawl that may
        be killed needs, so the `Link` headers are followed here.
        """
        query = urlencode({**_LISTING, "limit": page_size})
        yield from self._pages(cursor or f"{self.endpoint}/api/models?{query}", "the model listing")

    def tree(self, repo_id: str, revision: str) -> list[RemoteFile]:
        """Return all files of a repo at a commit, with sizes and hashes."""
        url = f"{self.endpoint}/api/models/{repo_id}/tree/{quote(revision, safe='')}?recursive=true"
        entries = [entry for page, _ in self._pages(url, f"{repo_id}: the list of files") for entry in page]
        try:
            return [_remote_file(entry) for entry in entries if entry["type"] == "file"]
        except (KeyError, TypeError) as error:
            raise HubRefusedError(f"{repo_id}: the list of files cannot be read: {error!r}") from error

    def _pages(self, url: str, what: str) -> Iterator[tuple[list[Any], str | None]]:
        """Yield (entries, address of the next page), following `Link` headers."""
        following: str | None = url
        while following is not None:
            answer = self._ask(self._own(following), LISTING_LIMIT)
            entries, following = _json(answer.body, what), answer.next_page
            if not isinstance(entries, list):
                raise HubRefusedError(f"{what} is not a list; is this the address of a hub?")
            yield entries, following

    def read_json(self, repo_id: str, revision: str, path: str) -> Any:
        """Return a JSON file of a repo at a commit.

        Raises:
            ValueError: the file is there and is not JSON.
        """
        return json.loads(self.read_bytes(repo_id, revision, path, CONFIG_LIMIT).decode("utf-8"))

    def read_bytes(self, repo_id: str, revision: str, path: str, limit: int) -> bytes:
        """Return a file of a repo at a commit; HubRefusedError when it has more than `limit` bytes."""
        return self._ask(self._file_url(repo_id, revision, path), limit).body

    def read_range(self, repo_id: str, revision: str, path: str, start: int, length: int) -> bytes:
        """Return `length` bytes of a file from `start` on, fewer where it ends before.

        A server that knows no ranges sends the file from its beginning; it is not read further than wanted.
        """
        return self._ask(self._file_url(repo_id, revision, path), start + length, (start, length)).body

    def _info_url(self, repo_id: str, revision: str | None, files: bool) -> str:
        at = f"/revision/{quote(revision, safe='')}" if revision is not None else ""
        return f"{self.endpoint}/api/models/{_checked(repo_id)}{at}{'?blobs=true' if files else ''}"

    def _file_url(self, repo_id: str, revision: str, path: str) -> str:
        return f"{self.endpoint}/{_checked(repo_id)}/resolve/{quote(revision, safe='')}/{quote(path)}"

    def _ask(self, url: str, limit: int, window: tuple[int, int] | None = None) -> Answer:
        """Ask until there is an answer, never faster than the hub allows all of us together."""
        bucket = self.limits.bucket_of(url)

        def ask() -> Answer:
            self.limits.wait(bucket)
            return self._get(url, limit, window)

        return self.policy.call(
            ask, self.token, sleep=self.limits.sleep, refused=lambda seconds: self.limits.refused(bucket, seconds)
        )

    def _own(self, url: str) -> str:
        """`url` at our endpoint: a mirror may repeat the hub's own addresses, and the token goes nowhere else."""
        ours, given = urlsplit(self.endpoint), urlsplit(url)
        return urlunsplit((ours.scheme, ours.netloc, given.path, given.query, ""))

    def _get(self, url: str, limit: int, window: tuple[int, int] | None = None) -> Answer:
        """GET once, with a deadline for the whole body; of a `window`, (first byte, bytes), nothing but that."""
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        headers = build_hf_headers(token=self.token or False, library_name=LIBRARY)
        if window is not None:
            headers["Range"] = f"bytes={window[0]}-{sum(window) - 1}"
        deadline = time.monotonic() + self.request_seconds
        with get_session().stream("GET", url, headers=headers, timeout=self.request_seconds) as response:
            if response.status_code >= 400:
                response.read()
            hf_raise_for_status(response)
            self.limits.heard(self.limits.bucket_of(url), response.headers)
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if window is not None and len(body) >= (wanted := window[1] if response.status_code == 206 else limit):
                    return Answer(bytes(body[wanted - window[1] : wanted]))
                if len(body) > limit:
                    raise HubRefusedError(f"{redact(url)}: more than {limit} bytes")
                # The client's own timeouts are for one read: a trickle never runs into them.
                if time.monotonic() > deadline:
                    raise HubBusyError(f"{redact(url)}: not finished within {self.request_seconds:g} s")
            if window is not None:
                return Answer(bytes(body if response.status_code == 206 else body[window[0] :]))
            return Answer(bytes(body), response.links.get("next", {}).get("url"))


def _checked(repo_id: str) -> str:
    """Return a repo id that is safe in an address: cards name bases that no hub could have."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise HubRefusedError(f"{repo_id!r} is not a repo id") from error
    return repo_id


def _remote_file(entry: Any) -> RemoteFile:
    lfs = entry.get("lfs")
    if lfs:
        return RemoteFile(entry["path"], lfs["size"], sha256=lfs["oid"])
    return RemoteFile(entry["path"], entry["size"], blob_id=entry["oid"])


def _json(body: bytes, what: str) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise HubRefusedError(f"{what} is not JSON; is this the address of a hub?") from error


def unreachable(endpoint: str, error: HubError) -> InputError:
    """Return the user's error for a hub that does not answer at all."""
    return InputError(f"endpoint = {redact(endpoint)!r}: the hub does not answer ({error.detail})")
