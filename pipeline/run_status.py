"""How far a run is: what is committed, what is missing, what failed, and when it will be done.

Reads only: names and summaries of commits (see `shards.commit_cache`), three columns of the catalog, the driver's last
snapshot. It takes no lock, so it is in no run's way.
"""

from collections import Counter
from pathlib import Path
from typing import Any

from captioning.prompt_table import read_prompt_table
from crawlers.catalog import read_columns
from pipeline.model_tally import ModelState, ModelTally, tally_models
from pipeline.resolve import read_run
from pipeline.run_folder import RunFolder
from pipeline.sampling_state import eta_seconds
from pipeline.status_file import read_status
from shards.audit.health import verdict
from shards.commit_cache import CommitSummary
from shards.dataset import Dataset
from shards.run_lock import lock_holder
from shards.statuses import Reason, Status


def run_status(root: Path, every: bool = True) -> dict[str, Any]:
    """Return the run's status as plain values; the keys are documented in docs/monitoring.md.

    Args:
        every: list every generator, not only those that run, fail or need a look.

    Raises:
        InputError: `root` is no run, or a part of it is damaged.
    """
    config = read_run(root)
    folder = RunFolder.at(root)
    commits = list(Dataset.open(folder.dataset).summaries().values())
    holder = lock_holder(folder.dataset)
    snapshot = read_status(folder.status)
    driver = snapshot.get("driver", {})
    live = holder is not None and (holder.pid, holder.host) == (driver.get("pid"), driver.get("host"))
    at_work = {lease["generator"] for lease in snapshot.get("running", ())} if live else set()
    catalog = _catalog(folder)
    fakes = [commit for commit in commits if commit.label == 1]
    generators = {name: revision for name, revision, eligible in zip(*catalog.values(), strict=True) if eligible}
    wanted = config.sample.images_per_generator
    tallies = tally_models(generators, wanted, config.sample.unit_images, fakes)
    entries = [_entry(tally, tally.state(name in at_work)) for name, tally in tallies.items()]
    states = Counter(entry["state"] for entry in entries)
    missing = sum(tally.missing for tally in tallies.values())
    again = snapshot.get("images_again", 0) if live else 0
    totals = snapshot.get("totals", {})
    return {
        "name": config.name,
        "running": holder is not None,
        "driver": {"pid": holder.pid, "host": holder.host} if holder is not None else None,
        "snapshot_time": driver.get("updated"),
        "stages": {
            "crawl": f"{len(catalog['eligible'])} models, {len(generators)} eligible"
            if catalog["eligible"]
            else "not done",
            "caption": f"{read_prompt_table(folder.prompts).num_rows} prompts"
            if folder.prompts.exists()
            else "not done",
            "real images": sum(commit.counts.get("ok", 0) for commit in commits if commit.label == 0),
            "detectors": sorted(path.parent.name for path in folder.detectors.glob("*/detector.json")),
            "report": str(folder.report) if folder.report.exists() else "not done",
        },
        "models": {"total": len(entries)} | {state.value: states[state] for state in ModelState},
        "images": {
            name: sum(entry[name] for entry in entries)
            for name in ("wanted", "ok", "flagged", "degenerate", "failed", "lost", "missing")
        },
        "images_missing": missing,
        "images_again": again,
        "images_per_second": snapshot.get("images_per_second"),
        "covered_per_second": snapshot.get("covered_per_second"),
        "eta_seconds": eta_seconds(missing + again, snapshot.get("covered_per_second")),
        "units_committed": len(fakes),
        "bytes_stored": sum(commit.stored for commit in commits),
        "bytes_fetched": totals.get("fetched"),
        "bytes_saved": totals.get("saved"),
        "idle_share": snapshot.get("idle_share"),
        "retried": totals.get("retries", 0),
        "worker_deaths": totals.get("deaths", {}),
        "failures": _failures(fakes),
        "unhealthy": {entry["generator"]: entry["health"] for entry in entries if entry["health"]},
        "generators": entries if every else [entry for entry in entries if _interesting(entry)],
    }


def _catalog(folder: RunFolder) -> dict[str, list[Any]]:
    names = ("generator", "revision", "eligible")
    return read_columns(folder.catalog, names) if folder.catalog.exists() else {name: [] for name in names}


def _entry(tally: ModelTally, state: ModelState) -> dict[str, Any]:
    counts = {name: getattr(tally, name) for name in ("ok", "flagged", "degenerate", "failed", "lost")}
    return {
        "generator": tally.generator,
        "state": state.value,
        "wanted": tally.wanted,
        "missing": tally.missing,
        **counts,
        "reason": tally.reason,
        "health": verdict({status: counts[status] for status in ("ok", "flagged", "degenerate")}),
    }


def _interesting(entry: dict[str, Any]) -> bool:
    return bool(entry["failed"] or entry["health"] or entry["state"] == ModelState.running)


def _failures(commits: list[CommitSummary]) -> dict[str, dict[str, int]]:
    """Reason → draws, units and generators that it befell; most draws first."""
    draws: Counter[str] = Counter()
    units: Counter[str] = Counter()
    generators: dict[str, set[str]] = {}
    for commit in commits:
        if not any(Status(status).failed for status in commit.counts):
            continue
        for reason, count in commit.reasons.items():
            if Reason(reason).status.failed:
                draws[reason] += count
                units[reason] += 1
                generators.setdefault(reason, set()).add(commit.generator)
    return {
        reason: {"draws": count, "units": units[reason], "generators": len(generators[reason])}
        for reason, count in draws.most_common()
    }
