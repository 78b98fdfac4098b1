"""The last step of a crawl: once every row is known, each gets its root. Bases outside the catalog are asked for."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from crawlers.crawling.spilled import SpilledMap
from crawlers.hub.hub_client import HubClient
from crawlers.hub.hub_errors import ClientClosedError, HubError, HubUnreachableError
from crawlers.recognition.base_aliases import MOVED_BASES
from crawlers.recognition.lineage import KnownRepo, Lineage, SharedWeights, named_bases, resolve_lineage, weight_hashes
from manifests.catalog import CatalogRow
from manifests.generator import WeightFile

_ALIASED = frozenset(MOVED_BASES) | frozenset(MOVED_BASES.values())
_NOBODY = "null"
"""What the hub could not describe, as the map holds it."""


class LineagePass:
    """Knows the bases of all rows, and of further repos as far as the hub could tell. Its memory is constant."""

    def __init__(self, client: HubClient) -> None:
        """`client` should remember what it asks: a crawl that goes on after a kill asks for the same again."""
        self._client = client
        self._known = SpilledMap()
        self._shared = SharedWeights(SpilledMap())

    def add(self, repo_id: str, bases: Iterable[str], files: Iterable[Mapping[str, Any]] | None) -> None:
        """Learn the bases that a row names; of a repo that an alias is about also its weights (`files` as stored)."""
        weights = None
        if repo_id in _ALIASED and files is not None:
            weights = weight_hashes([WeightFile.model_validate(file) for file in files])
        self._learn(repo_id, KnownRepo(tuple(bases), weights))

    def ask_for_bases(self, repo_id: str, bases: tuple[str, ...]) -> None:
        """Ask the hub for whatever is missing on the way from a row to its root.

        Raises:
            HubUnreachableError: the hub is gone.
        """
        resolve_lineage(repo_id, bases, self._ask)

    def resolve(self, row: CatalogRow, bases: tuple[str, ...]) -> CatalogRow:
        """Return the row with its lineage; notes on aliases and merges join its detail."""
        if row.lineage is not None:  # a manifest said it
            return row
        lineage = resolve_lineage(row.repo_id, bases, self._recall)
        lineage = self._shared.adopt(lineage, row.repo_id, row.files)
        new = (note for note in lineage.notes if note not in (row.detail or ""))
        detail = "; ".join((*((row.detail,) if row.detail else ()), *new)) or None
        return row.model_copy(update={"lineage": lineage.root, "detail": detail})

    def remember(self, repo_id: str, lineage: str | None, files: Iterable[Mapping[str, Any]]) -> None:
        """Let later rows with the same weights join the lineage of a row that is kept as it is."""
        kept = [WeightFile.model_validate(file) for file in files]
        self._shared.adopt(Lineage(lineage or repo_id), repo_id, kept)

    def _learn(self, repo_id: str, known: KnownRepo | None) -> None:
        self._known[repo_id] = _NOBODY if known is None else json.dumps([known.bases, known.weights])

    def _recall(self, repo_id: str) -> KnownRepo | None:
        told = json.loads(self._known.get(repo_id) or _NOBODY)
        return None if told is None else KnownRepo(tuple(told[0]), told[1])

    def _ask(self, repo_id: str) -> KnownRepo | None:
        if self._known.get(repo_id) is None:
            self._learn(repo_id, self._look_up(repo_id))
        return self._recall(repo_id)

    def _look_up(self, repo_id: str) -> KnownRepo | None:
        aliased = repo_id in _ALIASED
        try:
            info = self._client.model_info(repo_id, files=aliased)
        except (HubUnreachableError, ClientClosedError):
            raise
        except HubError:
            return None
        bases = named_bases(info.id, info.card_data.to_dict() if info.card_data else {}, info.tags or [])
        if not aliased:
            return KnownRepo(bases)
        files = (s for s in info.siblings or () if s.lfs is not None)
        weights = [WeightFile(path=s.rfilename, size=s.lfs.size, sha256=s.lfs.sha256) for s in files if s.lfs]
        return KnownRepo(bases, weight_hashes(weights))
