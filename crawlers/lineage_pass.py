"""The last step of a crawl: once every row is known, each gets its root. Bases outside the catalog are asked for."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from crawlers.base_aliases import MOVED_BASES
from crawlers.hub_client import HubClient
from crawlers.hub_errors import HubError, HubUnreachableError
from crawlers.lineage import KnownRepo, Lineage, SharedWeights, named_bases, resolve_lineage, weight_hashes
from manifests.catalog import CatalogRow
from manifests.generator import WeightFile

_ALIASED = frozenset(MOVED_BASES) | frozenset(MOVED_BASES.values())


class LineagePass:
    """Knows the bases of all rows, and of further repos as far as the hub could tell."""

    def __init__(self, client: HubClient, record: Callable[[Mapping[str, Any]], None]) -> None:
        """`record` writes an answer of the hub to the journal, so that it is asked for once only."""
        self._client = client
        self._record = record
        self._known: dict[str, KnownRepo | None] = {}
        self._shared = SharedWeights()

    def add_rows(self, rows: Iterable[tuple[CatalogRow, tuple[str, ...]]]) -> None:
        """Learn the bases that rows name, and the weights of those that an alias is about."""
        for row, bases in rows:
            if row.revision is not None:
                weights = weight_hashes(row.files) if row.repo_id in _ALIASED else None
                self._known[row.repo_id] = KnownRepo(bases, weights)

    def add_answers(self, answers: Iterable[Mapping[str, Any]]) -> None:
        """Learn what an earlier part of this crawl had asked the hub for."""
        for answer in answers:
            known = None if answer["bases"] is None else KnownRepo(tuple(answer["bases"]), answer["weights"])
            self._known[answer["repo_id"]] = known

    def ask_for_bases(self, row: CatalogRow, bases: tuple[str, ...]) -> None:
        """Ask the hub for whatever is missing on the way from an eligible row to its root.

        Raises:
            HubUnreachableError: the hub is gone.
        """
        if row.eligible and row.lineage is None:
            resolve_lineage(row.repo_id, bases, self._ask)

    def resolve(self, row: CatalogRow, bases: tuple[str, ...]) -> CatalogRow:
        """Return the row with its lineage; notes on aliases and merges join its detail."""
        if row.lineage is not None:  # a manifest said it
            return row
        lineage = resolve_lineage(row.repo_id, bases, self._known.get)
        lineage = self._shared.adopt(lineage, row.repo_id, row.files)
        detail = "; ".join((*((row.detail,) if row.detail else ()), *lineage.notes)) or None
        return row.model_copy(update={"lineage": lineage.root, "detail": detail})

    def remember(self, row: CatalogRow) -> None:
        """Let later rows with the same weights join the lineage of a row that is kept as it is."""
        self._shared.adopt(Lineage(row.lineage or row.repo_id), row.repo_id, row.files)

    def _ask(self, repo_id: str) -> KnownRepo | None:
        if repo_id not in self._known:
            self._known[repo_id] = known = self._look_up(repo_id)
            bases = None if known is None else list(known.bases)
            weights = known.weights if known is not None else None
            self._record({"base": {"repo_id": repo_id, "bases": bases, "weights": weights}})
        return self._known[repo_id]

    def _look_up(self, repo_id: str) -> KnownRepo | None:
        aliased = repo_id in _ALIASED
        try:
            info = self._client.model_info(repo_id, files=aliased)
        except HubUnreachableError:
            raise
        except HubError:
            return None
        bases = named_bases(info.id, info.card_data.to_dict() if info.card_data else {}, info.tags or [])
        if not aliased:
            return KnownRepo(bases)
        files = (s for s in info.siblings or () if s.lfs is not None)
        weights = [WeightFile(path=s.rfilename, size=s.lfs.size, sha256=s.lfs.sha256) for s in files if s.lfs]
        return KnownRepo(bases, weight_hashes(weights))
