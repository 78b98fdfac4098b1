"""One hub, one token, one way to ask: explicit endpoint and credentials, typed errors, bounded retries.

Nothing is taken from the environment: without a token, no token is sent, so a token for one hub can never reach
another. 429, 5xx and cut connections are asked again; 401, 403 and 404 are answers.
"""

import json
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from crawlers.hub_errors import HubBusyError, HubError, HubRefusedError, check_endpoint, classify, redact
from crawlers.remote_file import RemoteFile
from crawlers.retrying import RetryPolicy
from manifests.errors import InputError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

DEFAULT_ENDPOINT = "https://huggingface.co"
LIBRARY = "commforge"
LISTING_LIMIT = 64 * 2**20
"""Bytes of one page of a listing."""
CONFIG_LIMIT = 4 * 2**20
"""Bytes: no config of a pipeline is larger, and a crawl does not read what is."""


class HubClient:
    """Reads a hub's API. Safe to share between threads.

    Raises (every method):
        HubError: see `crawlers.hub_errors`; transient ones only after all attempts.
    """

    def __init__(
        self,
        endpoint: str = DEFAULT_ENDPOINT,
        token: str | None = None,
        policy: RetryPolicy | None = None,
        request_seconds: float = 30.0,
    ) -> None:
        """Raises InputError when `endpoint` is not an address."""
        from huggingface_hub import HfApi

        self.endpoint = check_endpoint(endpoint)
        self.token = token
        self.policy = policy or RetryPolicy()
        self._request_seconds = request_seconds
        self._api = HfApi(endpoint=self.endpoint, token=token or False, library_name=LIBRARY)

    def model_info(self, repo_id: str, revision: str | None = None, *, files: bool = True) -> "ModelInfo":
        """Return what the hub knows of a model; with `files` also each file's size and LFS sha256."""

        def ask() -> "ModelInfo":
            try:
                return self._api.model_info(
                    repo_id, revision=revision, files_metadata=files, timeout=self._request_seconds
                )
            except (KeyError, TypeError, ValueError) as error:
                if typed := classify(error, self.token):
                    raise typed from error
                raise HubRefusedError(f"{repo_id}: the hub's answer cannot be read: {error!r}") from error

        return self.policy.call(ask, self.token)

    def listing_pages(self, cursor: str | None = None, page_size: int = 500) -> Iterator[tuple[list[Any], str | None]]:
        """Yield pages of all diffusers models, most downloaded first: (entries, cursor of the next page).

        `HfApi.list_models` asks the same; it cannot be stopped and taken up again at a page, which a crawl that may
        be killed needs, so the `Link` headers are followed here.
        """
        query = urlencode({"filter": "diffusers", "sort": "downloads", "limit": page_size})
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
            body, following = self.policy.call(partial(self._get, self._own(following), LISTING_LIMIT), self.token)
            entries = _json(body, what)
            if not isinstance(entries, list):
                raise HubRefusedError(f"{what} is not a list; is this the address of a hub?")
            yield entries, following

    def read_json(self, repo_id: str, revision: str, path: str) -> Any:
        """Return a JSON file of a repo at a commit.

        Raises:
            ValueError: the file is there and is not JSON.
        """
        url = f"{self.endpoint}/{repo_id}/resolve/{quote(revision, safe='')}/{quote(path)}"
        body, _ = self.policy.call(lambda: self._get(url, CONFIG_LIMIT), self.token)
        return json.loads(body.decode("utf-8"))

    def _own(self, url: str) -> str:
        """`url` at our endpoint: a mirror may repeat the hub's own addresses, and the token goes nowhere else."""
        ours, given = urlsplit(self.endpoint), urlsplit(url)
        return urlunsplit((ours.scheme, ours.netloc, given.path, given.query, ""))

    def _get(self, url: str, limit: int) -> tuple[bytes, str | None]:
        """GET with a deadline for the whole body: (body, address of the next page)."""
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        headers = build_hf_headers(token=self.token or False, library_name=LIBRARY)
        deadline = time.monotonic() + self._request_seconds
        with get_session().stream("GET", url, headers=headers, timeout=self._request_seconds) as response:
            if response.status_code >= 400:
                response.read()
            hf_raise_for_status(response)
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > limit:
                    raise HubRefusedError(f"{redact(url)}: more than {limit} bytes")
                # The client's own timeouts are for one read: a trickle never runs into them.
                if time.monotonic() > deadline:
                    raise HubBusyError(f"{redact(url)}: not finished within {self._request_seconds:g} s")
            return bytes(body), response.links.get("next", {}).get("url")


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
