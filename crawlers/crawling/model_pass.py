"""The longest step of a crawl: each model is looked at, several at a time, and judged in rank order.

The journal's rows are in the order of the jobs, so their number says where to go on after a kill.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, BinaryIO

from crawlers.crawling.base_memory import BaseMemory
from crawlers.crawling.crawl_filters import Limits, finding_verdict, left_out
from crawlers.crawling.crawl_jobs import CrawlJob
from crawlers.crawling.crawl_request import CrawlRequest
from crawlers.crawling.journal import append_line
from crawlers.crawling.kept_rows import split_bases
from crawlers.hub.hub_client import HubClient
from crawlers.recognition.eligibility import Verdict
from crawlers.recognition.inspection import Finding, inspect_repo
from manifests.catalog import CatalogRow


class ModelPass:
    """Looks at models and writes their rows.

    Attributes:
        asked: models that the hub was asked for.
        done: jobs that have their line in the journal.
    """

    def __init__(
        self,
        request: CrawlRequest,
        client: HubClient,
        bases: BaseMemory,
        limits: Limits,
        progress: Callable[[str], object],
    ) -> None:
        """`limits` has counted what the catalog and the journal hold already."""
        self._request, self._client, self._bases = request, client, bases
        self._limits, self._progress = limits, progress
        self.asked = self.done = 0

    def run(self, jobs: Iterator[CrawlJob], journal: BinaryIO, *, done: int, total: int) -> None:
        """Look at the models of `jobs`, which are those behind the `done` first of `total`.

        Raises:
            HubUnreachableError: the hub has gone; the journal holds what was found.
        """
        self.done = done
        window: deque[tuple[CrawlJob, Future[Finding] | None]] = deque()
        pool = ThreadPoolExecutor(self._request.connections, thread_name_prefix="crawl")
        try:
            while True:
                while len(window) < 2 * self._request.connections and (job := next(jobs, None)) is not None:
                    needed = job.found is None and self._limit(job).eligible
                    window.append((job, pool.submit(self._look_at, job) if needed else None))
                    self.asked += needed
                if not window:
                    return
                job, future = window.popleft()
                finding = self._judge(job, future.result() if future is not None else None)
                if finding is None:
                    append_line(journal, {"same": job.rank})
                else:
                    if finding.eligible:
                        self._limits.count(job.repo_id, finding.fields)
                    append_line(journal, {"row": _record(job, finding), "bases": list(finding.bases)})
                self.done += 1
                self._progress(f"crawl: looked at {self.done} of {total} models")
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _limit(self, job: CrawlJob) -> Verdict:
        return Verdict() if job.named or job.listed is None else self._limits.listed(job.listed)

    def _judge(self, job: CrawlJob, finding: Finding | None) -> Finding | None:
        """Judge what was found by the filters, in rank order, whatever order the answers came in.

        Returns:
            None when a row that is in the catalog stays as it is.
        """
        if not (limit := self._limit(job)).eligible:  # even if it was asked for meanwhile
            assert job.listed is not None
            return None if job.judged_again else left_out(job.listed, limit)
        if job.found is not None:
            finding = _taken_now(job.found)
        assert finding is not None
        if job.named or not finding.eligible:
            return finding
        verdict = finding_verdict(self._request, finding.fields)
        verdict = verdict if not verdict.eligible else self._limits.found(finding.fields)
        if verdict.eligible:
            return finding
        if job.found is not None:
            return None
        # What the look itself had to say stays behind the filter's words, for the day when the filter is wider.
        detail = "; ".join(filter(None, (verdict.detail, finding.fields.get("detail"))))
        told = {"eligible": False, "reason": verdict.reason, "detail": detail}
        return replace(finding, fields={**finding.fields, **told})

    def _look_at(self, job: CrawlJob) -> Finding:
        client = self._bases.client_for(job.repo_id)
        finding = inspect_repo(client, job.repo_id, self._request, job.listed, job.spec)
        if finding.fields["reason"] == "unavailable":
            # One repo's trouble, or the hub's? Without a hub, every further model would get this reason.
            self._client.check_answers()
        return finding


def _taken_now(row: CatalogRow) -> Finding:
    """Return the finding of a row that only a filter had left out, without asking again for what it holds."""
    place = {"snapshot", "rank", "repo_id", "generator", "named"}
    fields = {key: getattr(row, key) for key in CatalogRow.model_fields if key not in place}
    notes = (row.detail or "").partition("; ")[2]
    told = {"eligible": True, "reason": "ok", "detail": notes or None, "lineage": None}
    return Finding(fields | told, split_bases(row.base_model))


def _record(job: CrawlJob, finding: Finding) -> dict[str, Any]:
    row = CatalogRow.model_validate(place_of(job, "") | dict(finding.fields))
    return row.model_dump(mode="json", exclude={"snapshot"})


def place_of(job: CrawlJob, snapshot: str) -> dict[str, Any]:
    """Return the fields of a row that say where it is in the catalog."""
    return {
        "snapshot": snapshot,
        "rank": job.rank,
        "repo_id": job.repo_id,
        "generator": job.generator,
        "named": job.named,
    }
