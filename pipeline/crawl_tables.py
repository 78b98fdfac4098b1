"""`crawl --report` for people: the same numbers as its JSON, as tables."""

from collections.abc import Mapping

from crawlers.crawl_report import CrawlReport
from pipeline.byte_sizes import size
from pipeline.cli.output import print_table


def print_crawl_report(report: CrawlReport) -> None:
    """Print a catalog in numbers on standard output."""
    print(f"{report.catalog}: {report.models} models ({report.listed} of the listing), {report.eligible} eligible")
    print(f"snapshots: {', '.join(report.snapshots)}")
    _counts("eligible by packaging", "packaging", report.packagings)
    _counts("by family", "family", report.families)
    _counts("by architecture", "architecture", report.architectures)
    _counts("by licence", "licence", report.licences)
    _counts("by year", "year", report.years)
    _counts(f"by uploader, {len(report.authors)} of {report.author_count}", "uploader", report.authors)
    _counts(f"by lineage, {len(report.lineages)} of {report.lineage_count}", "root", report.lineages)
    _title("to fetch")
    saved = 1 - report.bytes_unique / report.bytes_naive if report.bytes_naive else 0.0
    print(
        f"{size(report.bytes_unique)} in {report.distinct_files} weight files; {size(report.bytes_naive)} in "
        f"{report.weight_files} if every generator fetched its own ({saved:.1%} saved)"
    )
    print_table(
        ["held at once", "disk for the largest"], [[count, size(held)] for count, held in report.bytes_pinned.items()]
    )
    print(f"the whole catalog: {size(report.bytes_unique)} of disk")
    _title("smallest card that one image fits on, estimated")
    names = {"more": "larger", "unknown": "unknown"}
    print_table(["card", "models"], [[names.get(gib, f"{gib} GiB"), n] for gib, n in report.gpu_memory.items()])
    _title("identical parts of whole pipelines")
    share = report.pipelines_sharing / report.pipelines if report.pipelines else 0.0
    print(f"{report.pipelines_sharing} of {report.pipelines} pipelines ({share:.1%}) have a part that another has too")
    print_table(
        ["part", "models", "different", "copies", "models with a copy", "bytes saved"],
        [
            (
                part.component,
                part.models,
                part.distinct,
                f"{part.identical_share:.1%}",
                part.sharing,
                size(part.bytes_saved),
            )
            for part in report.components
        ],
    )
    _title("left out, or doubtful")
    print_table(["what", "models", "meaning"], [[entry.what, entry.models, entry.meaning] for entry in report.failures])
    _title("requests that sampling all of it needs, at least")
    print_table(["bucket", "requests"], [["api", report.requests.api], ["resolvers", report.requests.resolvers]])


def _counts(title: str, column: str, counts: Mapping[str, int]) -> None:
    _title(title)
    print_table([column, "models"], [[name, models] for name, models in counts.items()])


def _title(text: str) -> None:
    print(f"\n{text}")
