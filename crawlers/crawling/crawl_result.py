"""What a crawl left behind, read from the catalog itself."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from crawlers.catalog_file import CatalogHeader, read_header, read_records
from crawlers.crawling.crawl_request import CrawlRequest


@dataclass(frozen=True)
class CrawlResult:
    """What a crawl left behind.

    Attributes:
        rows: of the whole catalog.
        listed: rows that came from the hub's listing.
        reasons: catalog reason to number of rows, "ok" included.
        named_left_out: (repo id, reason, detail) of models that this call's request named and that are not eligible.
        asked: models that this call asked the hub for; 0 when the catalog was there already.
        requests: requests that this call sent, by the hub's bucket ("api", "resolvers"), repeated ones included.
    """

    path: Path
    snapshot: str
    rows: int
    eligible: int
    listed: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    named_left_out: tuple[tuple[str, str, str], ...] = ()
    asked: int = 0
    requests: dict[str, int] = field(default_factory=dict)


def standing_catalog(catalog: Path) -> CrawlResult | None:
    """Return what a catalog says of itself, None if there is none; the hub is not asked.

    Raises:
        InputError: the file is not a catalog that `crawl` wrote.
    """
    header = read_header(catalog)
    return None if header is None else result_of(catalog, header, CrawlRequest())


def result_of(catalog: Path, header: CatalogHeader, request: CrawlRequest) -> CrawlResult:
    """Count the rows of a catalog; `request` says which models were named."""
    reasons: Counter[str] = Counter()
    left_out = []
    wanted = set(request.named) | {spec.repo_id for spec in request.generators}
    for row in read_records(catalog, ["repo_id", "eligible", "reason", "detail"]):
        reasons[row["reason"]] += 1
        if not row["eligible"] and row["repo_id"] in wanted:
            left_out.append((row["repo_id"], row["reason"], row["detail"] or ""))
    return CrawlResult(
        catalog, header.snapshot, reasons.total(), reasons["ok"], header.listed, dict(reasons), tuple(left_out)
    )
