"""What the hub said of repos that many models are made from, so that each is asked for once in a whole crawl.

Thirty thousand adapters of one base would ask thirty thousand times for the base's description and configs. Here the
first asks, the others wait for its answer, and the answer lies in a file beside the journal, so that a crawl that was
killed does not ask again either.
"""

import base64
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from crawlers.crawling.journal import append_line, open_after_last_line, read_lines
from crawlers.crawling.spilled import SpilledMap
from crawlers.hub.hub_client import Answer, HubClient
from crawlers.hub.hub_errors import (
    FileGoneError,
    HubError,
    HubRefusedError,
    RepoGatedError,
    RepoGoneError,
    RevisionGoneError,
)

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

_REFUSALS: dict[str, type[HubError]] = {
    kind.__name__: kind for kind in (RepoGoneError, RepoGatedError, RevisionGoneError, FileGoneError, HubRefusedError)
}
"""Answers that will be the same when asked again."""
TROUBLE_SECONDS = 60.0
"""For so long nobody asks again for what the hub could not give after all attempts."""


class BaseMemory:
    """Answers by address. Safe to share between threads; a context manager that keeps the file open."""

    def __init__(self, client: HubClient, file: Path) -> None:
        self._client = client
        self._path = file
        self._offsets = SpilledMap()
        self._lock = threading.Lock()
        self._under_way: dict[str, Future[Answer]] = {}
        self._trouble: dict[str, tuple[float, HubError]] = {}

    def __enter__(self) -> "BaseMemory":
        start = 0
        for line, end in read_lines(self._path):
            self._offsets[line["url"]] = str(start)
            start = end
        self._file = open_after_last_line(self._path)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def client_for(self, repo_id: str | None) -> HubClient:
        """Return a client that remembers what it asks of every repo but this one, whose row remembers it."""
        return _RememberingClient(self._client, self, repo_id)

    def knows(self, url: str) -> bool:
        return self._offsets.get(url) is not None

    def ask(self, url: str, ask: Callable[[], Answer]) -> Answer:
        """Return the remembered answer, or ask; of several threads that want the same, one does.

        Raises:
            HubError: the refusal, remembered too.
        """
        with self._lock:
            if (offset := self._offsets.get(url)) is not None:
                return self._read(int(offset))
            if (trouble := self._trouble.get(url)) is not None and time.monotonic() - trouble[0] < TROUBLE_SECONDS:
                raise trouble[1]
            future = self._under_way.get(url)
            mine = future is None
            if future is None:
                future = self._under_way[url] = Future()
        if mine:
            self._ask_for_all(url, ask, future)
        return future.result()

    def _ask_for_all(self, url: str, ask: Callable[[], Answer], future: "Future[Answer]") -> None:
        try:
            answer = ask()
            # Listings are asked page by page and never through here, so a body is all there is to keep.
            self._write({"url": url, "body": base64.b64encode(answer.body).decode(), "next": answer.next_page})
            future.set_result(answer)
        except HubError as error:
            if type(error).__name__ in _REFUSALS:
                self._write({"url": url, "refusal": type(error).__name__, "detail": error.detail})
            else:
                self._trouble[url] = (time.monotonic(), error)
            future.set_exception(error)
        except BaseException as error:
            future.set_exception(error)  # whoever waits for it must not wait for ever
            raise
        finally:
            with self._lock:
                del self._under_way[url]

    def _write(self, line: dict[str, Any]) -> None:
        with self._lock:
            offset = self._file.seek(0, 2)
            append_line(self._file, line)
            self._offsets[line["url"]] = str(offset)

    def _read(self, offset: int) -> Answer:
        with self._path.open("rb") as file:
            file.seek(offset)
            line = json.loads(file.readline())
        if "refusal" in line:
            raise _REFUSALS[line["refusal"]](line["detail"])
        return Answer(base64.b64decode(line["body"]), line["next"])


class _RememberingClient(HubClient):
    """Asks as another client does, with its limits, through the memory."""

    def __init__(self, client: HubClient, memory: BaseMemory, own: str | None) -> None:
        super().__init__(client.endpoint, client.token, client.policy, client.request_seconds, limits=client.limits)
        self._memory = memory
        self._repo_id = own

    def model_info(self, repo_id: str, revision: str | None = None, *, files: bool = True) -> "ModelInfo":
        # What is known with files answers the question without them.
        files = files or self._memory.knows(self._info_url(repo_id, revision, True))
        return super().model_info(repo_id, revision, files=files)

    def _ask(self, url: str, limit: int, window: tuple[int, int] | None = None) -> Answer:
        if self._is_own(urlsplit(url).path):
            return super()._ask(url, limit, window)
        key = url if window is None else f"{url}#{window[0]}+{window[1]}"
        return self._memory.ask(key, lambda: super(_RememberingClient, self)._ask(url, limit, window))

    def _is_own(self, path: str) -> bool:
        if self._repo_id is None:
            return False
        parts = path.removeprefix(urlsplit(self.endpoint).path).removeprefix("/api/models").split("/")
        return "/".join(parts[1:3]) == self._repo_id
