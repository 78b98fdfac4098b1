"""One crawl in progress, in four steps, each of which a kill may end.

1. The listing is spooled to disk, so the ranking is that of one moment.
2. Each model that the filters let through is looked at and its row appended to a journal, in rank order: the number
   of rows in the journal says where to go on, and no model of the journal is asked for again.
3. Lineage is resolved once all rows are known.
4. The catalog is written whole and put in its place; only then is the journal removed.

Nothing is held in memory for each model: a million listed models take as much of it as a thousand.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from crawlers.catalog_file import CatalogHeader, Record, write_catalog
from crawlers.crawling.base_memory import BaseMemory
from crawlers.crawling.crawl_filters import Limits, left_out
from crawlers.crawling.crawl_jobs import CrawlJob, crawl_jobs
from crawlers.crawling.crawl_parts import CrawlParts
from crawlers.crawling.crawl_request import CrawlRequest
from crawlers.crawling.journal import append_line, open_after_last_line, read_lines, sync
from crawlers.crawling.kept_rows import KeptRows
from crawlers.crawling.lineage_pass import LineagePass
from crawlers.crawling.listing import read_listing, spool_listing
from crawlers.crawling.model_pass import ModelPass, place_of
from crawlers.hub.hub_client import HubClient, unreachable
from crawlers.hub.hub_errors import HubError, HubUnreachableError
from manifests.catalog import CatalogRow
from manifests.errors import InputError
from shards.identifiers import content_hash

Progress = Callable[[str], object]
"""Called with a short text that says how far the crawl is."""


class CrawlInProgress:
    """Makes the catalog that answers a request, in the folder that it alone writes to.

    `asked` counts the models that the hub was asked for.
    """

    def __init__(
        self,
        request: CrawlRequest,
        catalog: Path,
        client: HubClient,
        old: CatalogHeader | None,
        refresh: bool,
        progress: Progress,
    ) -> None:
        self._request, self._catalog, self._client, self._progress = request, catalog, client, progress
        self._old = old
        grows = old is not None and not refresh
        self._kept = KeptRows(catalog, old.request, request) if old is not None and grows else None
        self._listed_before = old.listed if old is not None and grows else 0
        number = int(old.snapshot.split("-")[0]) + 1 if old is not None else 1
        self._snapshot = f"{number:04d}-{content_hash(request.model_dump(mode='json'))[:8]}"
        self._parts = CrawlParts.of(catalog)
        self._listed = 0
        self.asked = 0

    def run(self) -> CatalogHeader:
        """Do what a crawl that ended early left undone, and return the header of the catalog that is there now.

        Raises:
            InputError: the hub does not answer.
            OSError: the folder cannot be written.
        """
        start = {"snapshot": self._snapshot, "kept": self._kept is not None}
        if next((line for line, _ in read_lines(self._parts.journal)), None) != {"start": start}:
            self._parts.remove()
        with open_after_last_line(self._parts.journal) as journal, BaseMemory(self._client, self._parts.bases) as bases:
            if journal.tell() == 0:
                append_line(journal, {"start": start})
            self._list()
            self._look_at_models(journal, bases)
            lineage = self._resolve_lineage(bases)
            sync(journal)
        header = self._header()
        if self._old is not None and self._kept is None:
            self._keep_aside(self._old)
        write_catalog(self._catalog, header, self._rows(lineage))
        self._parts.remove()
        return header

    def _list(self) -> None:
        count = self._request.count
        if self._kept is not None and self._old is not None and _same_extent(self._old.request, self._request):
            count = 0  # other filters or names only: the listing that the catalog was made from still stands
        elif count is not None:
            count = max(0, count - self._listed_before)
        try:
            self._listed = self._listed_before + spool_listing(
                self._client,
                self._parts.listing,
                count,
                self._request.min_downloads,
                self._is_kept,
                lambda found: self._progress(f"crawl: listed {found} models"),
            )
        except HubError as error:
            raise _stopped(self._client.endpoint, error, "the listing") from error

    def _is_kept(self, repo_id: str) -> bool:
        return self._kept is not None and self._kept.has(repo_id)

    def _new_jobs(self) -> Iterator[CrawlJob]:
        """Yield the rows to be added."""
        return crawl_jobs(
            self._request,
            read_listing(self._parts.listing),
            first_rank=(self._kept.count if self._kept else 0) + 1,
            is_known=self._is_kept,
            known_generators=self._kept.generators if self._kept else frozenset(),
        )

    def _jobs(self) -> Iterator[CrawlJob]:
        """Yield the rows that the journal gets: what the listing's words leave out needs none."""
        if self._kept is not None:
            yield from self._kept.judged_again()
        yield from (job for job in self._new_jobs() if job.verdict.eligible)

    def _look_at_models(self, journal: BinaryIO, bases: BaseMemory) -> None:
        limits = Limits(self._request)
        for record in self._kept.eligible() if self._kept is not None else ():
            limits.count(record["repo_id"], record)
        done = 0
        for line in self._journalled():
            done += 1
            if "row" in line and line["row"]["eligible"]:
                limits.count(line["row"]["repo_id"], line["row"])
        looking = ModelPass(self._request, self._client, bases, limits, self._progress)
        try:
            looking.run(islice(self._jobs(), done, None), journal, done=done, total=sum(1 for _ in self._jobs()))
        except HubUnreachableError as error:
            raise _stopped(self._client.endpoint, error, f"{looking.done} models") from error
        finally:
            self.asked = looking.asked

    def _resolve_lineage(self, bases: BaseMemory) -> LineagePass:
        lineage = LineagePass(bases.client_for(None))
        if self._kept is not None:
            for repo_id, root, named, files in self._kept.described():
                lineage.add(repo_id, named, files)
                lineage.remember(repo_id, root, files)
        for line in self._journalled():
            if "row" in line and line["row"]["revision"] is not None:
                lineage.add(line["row"]["repo_id"], line["bases"], line["row"]["files"])
        try:
            for done, line in enumerate(self._journalled(), start=1):
                if "row" in line and line["row"]["eligible"] and line["row"]["lineage"] is None:
                    lineage.ask_for_bases(line["row"]["repo_id"], tuple(line["bases"]))
                self._progress(f"crawl: lineage of {done} models")
        except HubUnreachableError as error:
            raise _stopped(self._client.endpoint, error, "all models, and was looking for their bases") from error
        return lineage

    def _journalled(self) -> Iterator[dict[str, Any]]:
        return (line for line, _ in read_lines(self._parts.journal) if "start" not in line)

    def _rows(self, lineage: LineagePass) -> Iterator[Record | pa.RecordBatch]:
        journalled = self._finished(lineage)
        if self._kept is not None:
            again = sum(1 for _ in self._kept.judged_again())
            firsts = (row for _, row in zip(range(again), journalled, strict=False) if row is not None)
            yield from self._kept.merged(firsts)
        blank = CatalogRow(snapshot="", rank=1, repo_id="", generator="", eligible=False, reason="filtered").to_record()
        for job in self._new_jobs():
            if job.verdict.eligible:
                row = next(journalled)
                assert row is not None and row.rank == job.rank
                yield row.to_record()
            else:
                assert job.listed is not None
                # All of these fields are stored as they are, and there may be a million such rows.
                yield blank | place_of(job, self._snapshot) | dict(left_out(job.listed, job.verdict).fields)

    def _finished(self, lineage: LineagePass) -> Iterator[CatalogRow | None]:
        """Yield the journal's rows with their lineage; None for one that stays as the catalog has it."""
        for line in self._journalled():
            if "same" in line:
                yield None
                continue
            row = CatalogRow.model_validate(line["row"] | {"snapshot": self._snapshot})
            # Of a model that nobody looked at, nobody knows the root.
            yield lineage.resolve(row, tuple(line["bases"])) if row.reason != "filtered" or row.revision else row

    def _header(self) -> CatalogHeader:
        before = self._old.snapshots if self._old is not None else ()
        return CatalogHeader(snapshots=(*before, self._snapshot), request=self._request, listed=self._listed)

    def _keep_aside(self, old: CatalogHeader) -> None:
        aside = self._catalog.with_name(f"{self._catalog.stem}-{old.snapshot}.parquet")
        aside.unlink(missing_ok=True)
        aside.hardlink_to(self._catalog)


def _same_extent(old: CrawlRequest, new: CrawlRequest) -> bool:
    return old.count == new.count and old.min_downloads == new.min_downloads


def _stopped(endpoint: str, error: HubError, where: str) -> InputError:
    message = str(unreachable(endpoint, error))
    return InputError(f"{message}; stopped after {where}; the same command goes on from there")
