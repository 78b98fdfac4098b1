"""The files of a crawl in progress, beside the catalog that it will write; they are gone when it is done."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from crawlers.crawling.journal import read_lines


@dataclass(frozen=True)
class CrawlParts:
    """Where they lie.

    Attributes:
        listing: the hub's listing, in order.
        journal: the rows so far, in rank order.
        bases: what the hub said of bases.
    """

    listing: Path
    journal: Path
    bases: Path

    @classmethod
    def of(cls, catalog: Path) -> Self:
        """Return the parts of a catalog; nothing needs to exist."""
        names = (f"{catalog.stem}{part}.jsonl.part" for part in (".listing", "", ".bases"))
        return cls(*(catalog.with_name(name) for name in names))

    def pending_snapshot(self) -> str | None:
        """Return which snapshot a crawl was writing when it ended early."""
        line = next((line for line, _ in read_lines(self.journal)), {})
        start = line.get("start")
        return start["snapshot"] if start else None

    def remove(self) -> None:
        for part in (self.listing, self.journal, self.bases):
            part.unlink(missing_ok=True)
