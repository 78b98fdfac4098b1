"""crawl: from a hub and a request to a frozen catalog, unless the one that is there answers already.

What is done for it, and how a kill is survived, is `crawlers.crawling.crawl_in_progress`.
"""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from crawlers.catalog import CATALOG_FILE
from crawlers.catalog_file import check_columns, read_header
from crawlers.crawling.crawl_in_progress import CrawlInProgress, Progress
from crawlers.crawling.crawl_parts import CrawlParts
from crawlers.crawling.crawl_request import CrawlRequest, check_request, check_same_rules, covers, union
from crawlers.crawling.crawl_result import CrawlResult, result_of
from crawlers.crawling.folder_lock import alone_in
from crawlers.hub.hub_client import HubClient
from crawlers.hub.rate_limits import API, RESOLVERS
from crawlers.hub.retrying import RetryPolicy
from manifests.errors import InputError, system_words


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
    grows: rows of models that were taken stay as they are, models that the filters left out are judged again where
    the filters have become wider, and new rows are appended, under a new snapshot. Interrupted at any moment, the
    same call goes on where it stopped.

    Args:
        out: the catalog's file, or the folder that catalog.parquet shall be in.
        refresh: make a new catalog from what the hub says now; the old one is kept as catalog-<snapshot>.parquet.
        policy: how patiently to ask the hub.

    Raises:
        InputError: the request or endpoint is wrong, the hub does not answer, the folder cannot be written, another
            crawl is writing to it, or the catalog there was made by rules that take more, or others.
    """
    check_request(request)
    client = HubClient(request.endpoint, request.token, policy)
    catalog = out if out.suffix == ".parquet" else out / CATALOG_FILE
    with alone_in(catalog.parent), ExitStack() as stack:
        stack.callback(client.close)  # whatever ends the crawl, no thread waits on for its turn at the hub
        old = read_header(catalog)
        wanted = request
        if old is not None and not refresh:
            check_same_rules(old.request, request)
            if covers(old.request, request):
                parts = CrawlParts.of(catalog)
                if parts.pending_snapshot() == old.snapshot:  # killed between the last two steps
                    parts.remove()
                return result_of(catalog, old, request)
            check_columns(catalog)
            wanted = union(old.request, request).model_copy(
                update={"endpoint": request.endpoint, "token": request.token, "connections": request.connections}
            )
        try:
            running = CrawlInProgress(wanted, catalog, client, old, refresh, progress or (lambda _: None))
            header = running.run()
        except OSError as error:
            raise InputError(f"{catalog.parent}: cannot be written: {system_words(error)}") from error
        sent = {bucket: client.limits.asked(bucket) for bucket in (API, RESOLVERS)}
        return replace(result_of(catalog, header, request), asked=running.asked, requests=sent)
