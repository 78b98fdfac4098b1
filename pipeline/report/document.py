"""The report's numbers for programs: `report.json` beside the page, and `commforge report RUN --json`."""

from dataclasses import asdict
from typing import Any

from pipeline.report.cost_facts import Components, ModelTime, WorkingTime
from pipeline.report.facts import Composition, Crawl, RunFacts


def report_document(run: RunFacts) -> dict[str, Any]:
    """Return the numbers as plain values; a part that the run does not have is None. Seconds, bytes, shares in [0, 1].

    The keys are documented in docs/monitoring.md.
    """
    return {
        "name": run.name,
        "models": None if run.crawl is None else _models(run.crawl),
        "components": None if run.crawl is None or run.crawl.components is None else _components(run.crawl.components),
        "draws": None if run.composition is None else _draws(run.composition),
        "time": None if run.time is None else _time(run.time),
    }


def _models(crawl: Crawl) -> dict[str, Any]:
    reasons = {reason.name: reason.value for reason in crawl.reasons}
    return {"crawled": crawl.crawled, "eligible": crawl.eligible, "reasons": reasons}


def _components(components: Components) -> dict[str, Any]:
    share = components.sharing / components.pipelines
    return asdict(components) | {"sharing_share": share}


def _draws(made: Composition) -> dict[str, Any]:
    totals = {name: made.total(name) for name in ("draws", "ok", "flagged", "degenerate", "failed")}
    return {"generators": made.sampled, **totals, "real_images": made.real_images}


def _time(time: WorkingTime) -> dict[str, Any]:
    total = _spent(time.total)
    del total["generator"]
    return {
        "units_told": time.told,
        "units_committed": time.committed,
        "total": total,
        "models": [_spent(model) for model in time.models],
    }


def _spent(model: ModelTime) -> dict[str, Any]:
    told = asdict(model) | {"seconds": model.seconds, "seconds_per_image": model.per_image}
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in told.items()}
