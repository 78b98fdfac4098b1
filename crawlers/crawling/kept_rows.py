"""The rows of a catalog that grows: all stay as they are but those that a filter left out and that are taken now.

Everything here reads the old file anew, a batch at a time, so that a catalog of every model of the hub grows in the
same memory as a small one.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from crawlers.catalog_file import Record, read_batches, read_records
from crawlers.crawling.crawl_filters import listing_verdict
from crawlers.crawling.crawl_jobs import CrawlJob
from crawlers.crawling.crawl_request import CrawlRequest, takes_more, takes_more_licences
from crawlers.crawling.listing import ListedModel
from crawlers.crawling.spilled import SpilledSet
from manifests.catalog import CatalogRow

_LISTED = ["rank", "repo_id", "generator", "revision", "named", "reason", "downloads", "likes", "created_at"]
_LISTED += ["hf_pipeline_tag", "hf_diffusers_tag", "license", "base_model", "packaging"]


class KeptRows:
    """The catalog in `file`, made for the request `old`, that is to answer `new`."""

    def __init__(self, file: Path, old: CrawlRequest, new: CrawlRequest) -> None:
        self._file = file
        self._new = new
        self._newly_named = frozenset(new.named) - frozenset(old.named)
        self._generators = frozenset(spec.name for spec in old.generators)
        self._filters_wider, self._licences_wider = takes_more(old, new), takes_more_licences(old, new)
        self._ids = SpilledSet()
        self.count = 0
        for record in read_records(file, ["repo_id"]):
            self._ids.add(record["repo_id"])
            self.count += 1

    @property
    def generators(self) -> frozenset[str]:
        """Manifest entries that have their rows already."""
        return self._generators

    def has(self, repo_id: str) -> bool:
        return repo_id in self._ids

    def judged_again(self) -> Iterator[CrawlJob]:
        """Yield the rows that the new request may take where the old one did not, in rank order."""
        if not self._filters_wider and not self._newly_named:
            return
        for batch in read_batches(self._file):
            for place, record in enumerate(batch.select(_LISTED).to_pylist()):
                if (job := self._job(record)) is None:
                    continue
                if record["reason"] == "filtered" and record["revision"] is not None:
                    row = CatalogRow.from_record(batch.slice(place, 1).to_pylist()[0])
                    job = CrawlJob(**vars(job) | {"found": row})
                yield job

    def _job(self, record: Record) -> CrawlJob | None:
        newly_named = record["repo_id"] in self._newly_named
        wider = {"filtered": self._filters_wider or newly_named, "licence_denied": self._licences_wider}
        if not wider.get(record["reason"], False):
            return None
        model = _as_listed(record)
        named = record["named"] or newly_named
        # What the listing's words still leave out stays as it is.
        if not named and not listing_verdict(self._new, model).eligible:
            return None
        return CrawlJob(record["repo_id"], record["generator"], record["rank"], named, model, judged_again=True)

    def eligible(self) -> Iterator[Record]:
        """Yield repo_id, packaging and base of the rows that were taken, for the limits."""
        for record in read_records(self._file, ["repo_id", "eligible", "packaging", "base"]):
            if record["eligible"]:
                yield record | {"base": json.loads(record["base"]) if record["base"] else None}

    def described(self) -> Iterator[tuple[str, str | None, tuple[str, ...], list[dict[str, Any]]]]:
        """Yield (repo id, lineage, bases, files as stored) of all rows that were looked at."""
        for record in read_records(self._file, ["repo_id", "revision", "lineage", "base_model", "files"]):
            if record["revision"] is not None:
                files = json.loads(record["files"])
                yield record["repo_id"], record["lineage"], split_bases(record["base_model"]), files

    def merged(self, replaced: Iterable[CatalogRow]) -> Iterator[Record | pa.RecordBatch]:
        """Yield all rows, with `replaced` (in rank order) in the place of those of the same rank."""
        following = iter(replaced)
        row = next(following, None)
        for batch in read_batches(self._file):
            last = batch["rank"][-1].as_py()
            here: dict[int, CatalogRow] = {}
            while row is not None and row.rank <= last:
                here[row.rank] = row
                row = next(following, None)
            named = self._newly_named.intersection(batch["repo_id"].to_pylist()) if self._newly_named else ()
            if not here and not named:
                yield batch
                continue
            for record in batch.to_pylist():
                if record["rank"] in here:
                    yield here[record["rank"]].to_record()
                else:
                    yield record | {"named": record["named"] or record["repo_id"] in named}


def _as_listed(record: Record) -> ListedModel:
    """Return what the listing had said of a row that nobody looked at."""
    relation = "adapter:" if record["packaging"] == "lora" else ""
    tags = [f"base_model:{relation}{base}" for base in split_bases(record["base_model"])]
    tags += [f"license:{record['license']}"] if record["license"] else []
    tags += [record["hf_diffusers_tag"]] if record["hf_diffusers_tag"] else []
    return ListedModel(
        record["repo_id"],
        record["downloads"],
        record["likes"],
        record["created_at"],
        record["hf_pipeline_tag"],
        tuple(tags),
    )


def split_bases(base_model: str | None) -> tuple[str, ...]:
    """Return the bases of a row's column `base_model`."""
    return tuple(base_model.split(", ")) if base_model else ()
