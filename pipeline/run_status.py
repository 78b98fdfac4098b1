"""How far a run is: what is committed, what is missing, what failed, and when it will be done."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioning.prompt_table import read_prompts
from crawlers.catalog import read_catalog
from pipeline.config import RunConfig
from pipeline.events import read_events
from pipeline.resolve import read_run
from pipeline.run_folder import RunFolder
from pipeline.stages.sample import plan_missing
from shards.commits import Commit
from shards.dataset import Dataset
from shards.run_lock import RunLock, RunLockHeld
from shards.statuses import Status


@dataclass(frozen=True)
class GeneratorStatus:
    """One generator's images: wanted, committed as ok, rejected, and draws that failed with the reason."""

    generator: str
    wanted: int
    missing: int
    ok: int
    flagged: int
    degenerate: int
    failed: int
    reason: str | None


def run_status(root: Path) -> dict[str, Any]:
    """Return the run's status as plain values.

    Raises:
        InputError: `root` is no run, or a part of it is damaged.
    """
    config = read_run(root)
    folder = RunFolder.at(root)
    commits = list(Dataset.open(folder.dataset).commits().values())
    generators = _generators(config, folder, commits)
    missing = sum(entry.missing for entry in generators)
    events = read_events(folder.events)
    return {
        "name": config.name,
        "running": _is_running(folder),
        "stages": {
            "crawl": _crawl_line(folder),
            "caption": f"{len(read_prompts(folder.prompts))} prompts" if folder.prompts.exists() else "not done",
            "real images": sum(commit.counts.get("ok", 0) for commit in commits if commit.label == 0),
            "detectors": sorted(path.parent.name for path in folder.detectors.glob("*/detector.json")),
            "report": str(folder.report) if folder.report.exists() else "not done",
        },
        "images_missing": missing,
        "eta_seconds": _eta(events, commits, missing),
        "retried": sum(event["event"] == "retry" for event in events),
        "generators": [vars(entry) for entry in generators],
    }


def _generators(config: RunConfig, folder: RunFolder, commits: list[Commit]) -> list[GeneratorStatus]:
    if not folder.catalog.exists():
        return []
    specs = [row.to_generator() for row in read_catalog(folder.catalog) if row.eligible]
    prompts = read_prompts(folder.prompts) if folder.prompts.exists() else []
    fakes = [commit for commit in commits if commit.label == 1]
    plans = plan_missing(config, specs, prompts, fakes) if folder.prompts.exists() else []
    missing = {plan.generator.name: sum(end - first for first, end in plan.intervals) for plan in plans}
    by_name: dict[str, list[Commit]] = {spec.name: [] for spec in specs}
    for commit in fakes:
        by_name.setdefault(commit.generator, []).append(commit)
    return [
        _generator(name, config.sample.images_per_generator, missing.get(name, 0), own) for name, own in by_name.items()
    ]


def _generator(name: str, wanted: int, missing: int, commits: list[Commit]) -> GeneratorStatus:
    counts: dict[str, int] = {}
    for commit in commits:
        for status, draws in commit.counts.items():
            key = "failed" if Status(status).failed else str(status)
            counts[key] = counts.get(key, 0) + draws
    failing = [reason for commit in commits if _failed(commit) for reason in commit.reasons]
    return GeneratorStatus(
        name,
        wanted,
        missing,
        counts.get("ok", 0),
        counts.get("flagged", 0),
        counts.get("degenerate", 0),
        counts.get("failed", 0),
        failing[0] if failing else None,
    )


def _failed(commit: Commit) -> bool:
    return any(Status(status).failed for status in commit.counts)


def _crawl_line(folder: RunFolder) -> str:
    if not folder.catalog.exists():
        return "not done"
    rows = read_catalog(folder.catalog)
    return f"{len(rows)} models, {sum(row.eligible for row in rows)} eligible"


def _is_running(folder: RunFolder) -> bool:
    lock = RunLock(folder.dataset)
    try:
        lock.acquire()
    except RunLockHeld:
        return True
    lock.release()
    return False


def _eta(events: list[dict[str, Any]], commits: list[Commit], missing: int) -> float | None:
    """Seconds at the rate of the run's last hour of work; None before its first finished unit."""
    images = {commit.unit: commit.count for commit in commits}
    done = [event for event in events if event["event"] == "done" and event["unit"] in images]
    if not missing or not done:
        return 0.0 if not missing else None
    recent = [event for event in done if event["time"] >= done[-1]["time"] - 3600]
    start = min(event["time"] - event["seconds"] for event in recent)
    rate = sum(images[event["unit"]] for event in recent) / max(done[-1]["time"] - start, 1e-3)
    return float(round(missing / rate, 1))
