"""crawl: from a hub and a request to a frozen catalog, in four steps, each of which a kill may end.

1. The listing is spooled to disk, so the ranking is that of one moment.
2. Each model is looked at and its row appended to a journal, in rank order: the number of rows in the journal says
   where to go on, and no model of the journal is asked for again.
3. Lineage is resolved once all rows are known.
4. The catalog is written whole and put in its place; only then is the journal removed.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from crawlers.catalog import CATALOG_FILE
from crawlers.catalog_file import CatalogHeader, read_header, read_rows, write_catalog
from crawlers.crawl_jobs import CrawlJob, crawl_jobs
from crawlers.crawl_request import CrawlRequest, check_request, check_same_rules, covers, union
from crawlers.eligibility import Verdict
from crawlers.folder_lock import alone_in
from crawlers.hub_client import HubClient, unreachable
from crawlers.hub_errors import HubError, HubUnreachableError
from crawlers.inspection import Finding, inspect_repo, not_looked_at
from crawlers.journal import append_line, open_after_last_line, read_lines, sync
from crawlers.lineage_pass import LineagePass
from crawlers.listing import id_hash, read_listing, spool_listing
from crawlers.retrying import RetryPolicy
from manifests.catalog import CatalogRow
from manifests.errors import InputError
from shards.identifiers import content_hash

Progress = Callable[[str], object]
"""Called with a short text that says how far the crawl is."""


@dataclass(frozen=True)
class CrawlResult:
    """What a crawl left behind.

    Attributes:
        reasons: catalog reason to number of rows, "ok" included.
        named_left_out: (repo id, reason, detail) of models that the request named and that are not eligible.
        asked: models that this call asked the hub for; 0 when the catalog was there already.
    """

    path: Path
    snapshot: str
    rows: int
    eligible: int
    reasons: dict[str, int] = field(default_factory=dict)
    named_left_out: tuple[tuple[str, str, str], ...] = ()
    asked: int = 0


def crawl(
    request: CrawlRequest,
    out: Path,
    progress: Progress | None = None,
    *,
    refresh: bool = False,
    policy: RetryPolicy | None = None,
) -> CrawlResult:
    """Make a catalog answer `request`.

    A catalog that answers it already is returned as it is, without touching the hub. One that answers part of it
    grows: its rows stay as they are and new ones are appended under a new snapshot. Interrupted at any moment, the
    same call goes on where it stopped.

    Args:
        out: the catalog's file, or the folder that catalog.parquet shall be in.
        refresh: make a new catalog from what the hub says now; the old one is kept as catalog-<snapshot>.parquet.
        policy: how patiently to ask the hub.

    Raises:
        InputError: the request or endpoint is wrong, the hub does not answer, the folder cannot be written, another
            crawl is writing to it, or the catalog there was made by other rules.
    """
    check_request(request)
    client = HubClient(request.endpoint, request.token, policy)
    catalog = out if out.suffix == ".parquet" else out / CATALOG_FILE
    with alone_in(catalog.parent):
        old = read_header(catalog)
        if old is not None and not refresh:
            check_same_rules(old.request, request)
            if covers(old.request, request):
                if _pending_snapshot(catalog) == old.snapshot:  # killed between the last two steps
                    _remove_parts(catalog)
                return _result(catalog, old, request, asked=0)
            request = union(old.request, request).model_copy(
                update={"endpoint": request.endpoint, "token": request.token, "connections": request.connections}
            )
        try:
            return _Crawl(request, catalog, client, old, refresh, progress or (lambda _: None)).run()
        except OSError as error:
            raise InputError(f"{catalog.parent}: cannot be written: {error.strerror or error}") from error


class _Crawl:
    """One crawl in progress."""

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
        self._kept = old if old is not None and not refresh else None
        number = int(old.snapshot.split("-")[0]) + 1 if old is not None else 1
        self._snapshot = f"{number:04d}-{content_hash(request.model_dump(mode='json'))[:8]}"
        self._spool, self._journal = _parts(catalog)
        self._known: set[int] = set()
        self._kept_rows = 0
        self._asked = 0

    def run(self) -> CrawlResult:
        start = {"snapshot": self._snapshot, "kept": self._kept is not None}
        if next((line for line, _ in read_lines(self._journal)), None) != {"start": start}:
            _remove_parts(self._catalog)
        self._read_kept()
        with open_after_last_line(self._journal) as journal:
            if journal.tell() == 0:
                append_line(journal, {"start": start})
            self._list()
            self._look_at_models(journal)
            lineage = self._resolve_lineage(journal)
            sync(journal)
        header = self._header()
        if self._old is not None and self._kept is None:
            self._keep_aside(self._old)
        write_catalog(self._catalog, header, self._rows(lineage))
        _remove_parts(self._catalog)
        return _result(self._catalog, header, self._request, self._asked)

    def _read_kept(self) -> None:
        if self._kept is None:
            return
        for row in read_rows(self._catalog):
            self._kept_rows += 1
            self._known.add(id_hash(row.repo_id))

    def _list(self) -> None:
        count = self._request.count
        if count is not None and self._kept is not None:
            count = max(0, count - self._kept.listed)
        try:
            spool_listing(
                self._client,
                self._spool,
                count,
                self._request.min_downloads,
                lambda repo_id: id_hash(repo_id) in self._known,
                lambda found: self._progress(f"crawl: listed {found} models"),
            )
        except HubError as error:
            raise _stopped(self._client.endpoint, error, "the listing") from error

    def _jobs(self) -> Iterator[CrawlJob]:
        kept = self._kept
        return crawl_jobs(
            self._request,
            read_listing(self._spool),
            first_rank=self._kept_rows + 1,
            is_known=lambda repo_id: id_hash(repo_id) in self._known,
            known_generators=frozenset(spec.name for spec in kept.request.generators) if kept else frozenset(),
        )

    def _look_at_models(self, journal: BinaryIO) -> None:
        by_author: Counter[str] = Counter()
        done = 0
        for line, _ in read_lines(self._journal):
            if "row" in line:
                done += 1
                by_author[_owner(line["row"]["repo_id"])] += line["row"]["eligible"]
        if self._kept is not None:
            by_author.update(_owner(row.repo_id) for row in read_rows(self._catalog) if row.eligible)
        total = sum(1 for _ in self._jobs())
        jobs = iter(job for place, job in enumerate(self._jobs()) if place >= done)
        window: deque[tuple[CrawlJob, Future[Finding] | None]] = deque()
        with ThreadPoolExecutor(self._request.connections, thread_name_prefix="crawl") as pool:
            try:
                while True:
                    while len(window) < 2 * self._request.connections and (job := next(jobs, None)) is not None:
                        full = self._author_is_full(job, by_author)
                        window.append((job, None if full else pool.submit(self._look_at, job)))
                        self._asked += not full
                    if not window:
                        return
                    job, future = window.popleft()
                    finding = future.result() if future is not None else None
                    # Judged in rank order, whatever order the answers came in.
                    if finding is None or self._author_is_full(job, by_author):
                        assert job.listed is not None
                        limit = self._request.max_per_author
                        finding = not_looked_at(
                            job.listed, Verdict("filtered", f"{job.listed.author} has {limit} models already")
                        )
                    by_author[_owner(job.repo_id)] += finding.eligible
                    append_line(journal, {"row": _record(job, finding), "bases": list(finding.bases)})
                    done += 1
                    self._progress(f"crawl: looked at {done} of {total} models")
            except HubUnreachableError as error:
                raise _stopped(self._client.endpoint, error, f"{done} models") from error
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _author_is_full(self, job: CrawlJob, by_author: Counter[str]) -> bool:
        limit = self._request.max_per_author
        return limit is not None and not job.named and by_author[_owner(job.repo_id)] >= limit

    def _look_at(self, job: CrawlJob) -> Finding:
        return inspect_repo(self._client, job.repo_id, self._request, job.listed, job.spec)

    def _resolve_lineage(self, journal: BinaryIO) -> LineagePass:
        lineage = LineagePass(self._client, lambda line: append_line(journal, line))
        if self._kept is not None:
            lineage.add_rows((row, _split(row.base_model)) for row in read_rows(self._catalog))
        lineage.add_rows(self._new_rows())
        lineage.add_answers(line["base"] for line, _ in read_lines(self._journal) if "base" in line)
        try:
            for done, (row, bases) in enumerate(self._new_rows(), start=1):
                lineage.ask_for_bases(row, bases)
                self._progress(f"crawl: lineage of {done} models")
        except HubUnreachableError as error:
            raise _stopped(self._client.endpoint, error, "all models, and was looking for their bases") from error
        return lineage

    def _new_rows(self) -> Iterator[tuple[CatalogRow, tuple[str, ...]]]:
        for line, _ in read_lines(self._journal):
            if "row" in line:
                row = line["row"] | {"snapshot": self._snapshot}
                yield CatalogRow.model_validate(row), tuple(line["bases"])

    def _rows(self, lineage: LineagePass) -> Iterator[CatalogRow]:
        if self._kept is not None:
            for row in read_rows(self._catalog):
                lineage.remember(row)
                newly_named = row.repo_id in self._request.named and not row.named
                yield row.model_copy(update={"named": True}) if newly_named else row
        for row, bases in self._new_rows():
            yield lineage.resolve(row, bases)

    def _header(self) -> CatalogHeader:
        before = self._old.snapshots if self._old is not None else ()
        listed = sum(1 for _ in read_listing(self._spool)) + (self._kept.listed if self._kept else 0)
        return CatalogHeader(snapshots=(*before, self._snapshot), request=self._request, listed=listed)

    def _keep_aside(self, old: CatalogHeader) -> None:
        aside = self._catalog.with_name(f"{self._catalog.stem}-{old.snapshot}.parquet")
        aside.unlink(missing_ok=True)
        aside.hardlink_to(self._catalog)


def _record(job: CrawlJob, finding: Finding) -> dict[str, Any]:
    row = CatalogRow(
        snapshot="",
        rank=job.rank,
        repo_id=job.repo_id,
        generator=job.generator,
        named=job.named,
        **finding.fields,
    )
    return row.model_dump(mode="json", exclude={"snapshot"})


def _owner(repo_id: str) -> str:
    return repo_id.split("/")[0]


def _split(base_model: str | None) -> tuple[str, ...]:
    return tuple(base_model.split(", ")) if base_model else ()


def _parts(catalog: Path) -> tuple[Path, Path]:
    return catalog.with_name(f"{catalog.stem}.listing.jsonl.part"), catalog.with_name(f"{catalog.stem}.jsonl.part")


def _pending_snapshot(catalog: Path) -> str | None:
    line = next((line for line, _ in read_lines(_parts(catalog)[1])), {})
    start = line.get("start")
    return start["snapshot"] if start else None


def _remove_parts(catalog: Path) -> None:
    for part in _parts(catalog):
        part.unlink(missing_ok=True)


def _stopped(endpoint: str, error: HubError, where: str) -> InputError:
    message = str(unreachable(endpoint, error))
    return InputError(f"{message}; stopped after {where}; the same command goes on from there")


def _result(catalog: Path, header: CatalogHeader, request: CrawlRequest, asked: int) -> CrawlResult:
    reasons: Counter[str] = Counter()
    left_out = []
    wanted = set(request.named) | {spec.repo_id for spec in request.generators}
    for row in read_rows(catalog):
        reasons[row.reason] += 1
        if not row.eligible and row.repo_id in wanted:
            left_out.append((row.repo_id, row.reason, row.detail or ""))
    rows = reasons.total()
    return CrawlResult(catalog, header.snapshot, rows, reasons["ok"], dict(reasons), tuple(left_out), asked)
