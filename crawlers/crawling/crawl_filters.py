"""Which models a crawl takes: the config's filters, judged as early as possible.

What the listing tells is judged before a model is asked for: its task, its day of creation, a licence that no card
could explain better. The rest needs the model's own description. Filters choose among the listed models; a model that
the config names is exempt from them, though not from the licence rule.

The two limits (`max_per_author`, `max_per_base`) depend on which models came before, so they are judged in rank order,
whatever order the hub's answers come in.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from crawlers.crawling.crawl_request import CrawlRequest
from crawlers.crawling.listing import ListedModel
from crawlers.crawling.spilled import SpilledCounter
from crawlers.recognition.base_aliases import MOVED_BASES
from crawlers.recognition.eligibility import Verdict
from crawlers.recognition.inspection import Finding, not_looked_at
from crawlers.recognition.lineage import named_bases

ADAPTERS = ("lora", "textual-inversion")
"""The packagings that `max_per_base` counts: thousands of them change one base a little each."""
_ADAPTER_TAG = "base_model:adapter:"


def listing_verdict(request: CrawlRequest, model: ListedModel) -> Verdict:
    """Judge a model by what the listing says; what it does not say counts for the model until it is asked for."""
    if (why := _wrong_task(request, model.pipeline_tag)) is not None:
        return Verdict("filtered", why)
    if model.created_at and (why := _wrong_date(request, model.created_at)) is not None:
        return Verdict("filtered", why)
    licences = [tag.removeprefix("license:") for tag in model.tags if tag.startswith("license:")]
    if licences and licences != ["other"]:  # the card may give `other` a name of its own
        return request.licence_rule.verdict(licences)
    return Verdict()


def finding_verdict(request: CrawlRequest, fields: Mapping[str, Any]) -> Verdict:
    """Judge an eligible model by its row: the listing's filters again, which it may have said nothing of, and more."""
    packaging, family = fields.get("packaging", "pipeline"), fields.get("family")
    if packaging not in request.packagings:
        return Verdict("filtered", f"packagings: {packaging} is not among {', '.join(request.packagings)}")
    if request.families and family not in request.families:
        return Verdict("filtered", f"families: {family} is not among {', '.join(request.families)}")
    why = _wrong_task(request, fields.get("hf_pipeline_tag")) or _wrong_date(request, fields.get("created_at"))
    return Verdict("filtered", why) if why else Verdict()


def _wrong_task(request: CrawlRequest, task: str | None) -> str | None:
    if not request.tasks or task in request.tasks:
        return None
    return f"tasks: {task or 'no pipeline tag'} is not among {', '.join(request.tasks)}"


def _wrong_date(request: CrawlRequest, created_at: str | None) -> str | None:
    """Compare days as ISO texts, which sort by time."""
    day = (created_at or "")[:10]
    if request.created_from and day < request.created_from.isoformat():
        return f"created_from: created {day or 'nobody knows when'}, before {request.created_from}"
    if request.created_until and (not day or day > request.created_until.isoformat()):
        return f"created_until: created {day or 'nobody knows when'}, after {request.created_until}"
    return None


def left_out(model: ListedModel, verdict: Verdict) -> Finding:
    """Return the finding of a listed model that a filter left out before anything was asked of it.

    It keeps the bases that the listing's tags name, so that the filter can be judged again without the listing.
    """
    finding = not_looked_at(model, verdict)
    bases = named_bases(model.repo_id, {}, model.tags)
    packaging = {"packaging": "lora"} if adapted_base(model) else {}
    return replace(finding, fields={**finding.fields, "base_model": ", ".join(bases) or None, **packaging}, bases=bases)


def adapted_base(model: ListedModel) -> str | None:
    """Return the base of a model that the listing's tags call an adapter, under the name that it has today."""
    bases = (tag.removeprefix(_ADAPTER_TAG) for tag in model.tags if tag.startswith(_ADAPTER_TAG))
    return next((_today(base) for base in bases), None)


def _today(base: str) -> str:
    return MOVED_BASES.get(base, base)


class Limits:
    """`max_per_author` and `max_per_base`, as models come in rank order."""

    def __init__(self, request: CrawlRequest) -> None:
        self._per_author, self._per_base = request.max_per_author, request.max_per_base
        self._authors, self._bases = SpilledCounter(), SpilledCounter()

    def count(self, repo_id: str, fields: Mapping[str, Any]) -> None:
        """Count one eligible model, by its row's fields."""
        if self._per_author is not None:
            self._authors.add(_owner(repo_id))
        if self._per_base is not None and (base := _base_of(fields)) is not None:
            self._bases.add(base)

    def listed(self, model: ListedModel) -> Verdict:
        """Judge a listed model before it is asked for."""
        owner = _owner(model.repo_id)
        if self._per_author is not None and self._authors[owner] >= self._per_author:
            return Verdict("filtered", f"max_per_author: {owner} has {self._per_author} models already")
        return self._base(adapted_base(model))

    def found(self, fields: Mapping[str, Any]) -> Verdict:
        """Judge an eligible model by its row's fields."""
        return self._base(_base_of(fields))

    def _base(self, base: str | None) -> Verdict:
        if base is not None and self._per_base is not None and self._bases[base] >= self._per_base:
            return Verdict("filtered", f"max_per_base: {base} has {self._per_base} adapters already")
        return Verdict()


def _base_of(fields: Mapping[str, Any]) -> str | None:
    base = fields.get("base")
    if fields.get("packaging") not in ADAPTERS or base is None:
        return None
    return _today(base["repo_id"] if isinstance(base, Mapping) else base.repo_id)


def _owner(repo_id: str) -> str:
    return repo_id.split("/")[0]
