"""The models of one worker: fetched, held while in use, and fetched ahead."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crawlers.fetch import fetch_generator, fetch_repo
from crawlers.held_folders import HeldFolders
from manifests.generator import GeneratorSpec


@dataclass(frozen=True)
class Traffic:
    """What fetching cost since it was last asked.

    Attributes:
        fetched: bytes that came from the hub.
        saved: bytes that were here already: another model had brought them.
        waited: seconds that `fetch` and `fetch_repo` took.
    """

    fetched: int = 0
    saved: int = 0
    waited: float = 0.0


class ModelCache:
    """Fetches generators for one worker process."""

    def __init__(
        self,
        *,
        endpoint: str,
        cache_dir: Path | None,
        token: str | None,
        timeout_seconds: float,
        disk_budget: int | None = None,
        prefetch: int = 1,
    ) -> None:
        self._endpoint, self._cache_dir, self._token, self._timeout = endpoint, cache_dir, token, timeout_seconds
        self._waited = 0.0

    def fetch(self, spec: GeneratorSpec) -> HeldFolders:
        """Return the generator's files and those of what it is loaded into. Raises as `fetch_generator`."""
        started = time.monotonic()
        folder = fetch_generator(
            spec,
            endpoint=self._endpoint,
            cache_dir=self._cache_dir,
            token=self._token,
            timeout_seconds=self._timeout,
        )
        self._waited += time.monotonic() - started
        return HeldFolders(folder)

    def fetch_repo(self, repo_id: str, revision: str) -> HeldFolders:
        """Return a single model's files. Raises as `crawlers.fetch.fetch_repo`."""
        started = time.monotonic()
        folder = fetch_repo(
            repo_id,
            revision,
            endpoint=self._endpoint,
            cache_dir=self._cache_dir,
            token=self._token,
            timeout_seconds=self._timeout,
        )
        self._waited += time.monotonic() - started
        return HeldFolders(folder)

    def prefetch(self, specs: Sequence[GeneratorSpec]) -> None:
        """Replace the list of generators that will be fetched next."""

    def take_traffic(self) -> Traffic:
        """Return the traffic since the last call."""
        traffic, self._waited = Traffic(waited=self._waited), 0.0
        return traffic

    def close(self) -> None:
        """End what goes on in the background."""
