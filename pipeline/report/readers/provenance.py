"""What it takes to make the dataset again: its fingerprint, where it came from, and what it was made with."""

import shlex
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report.facts import Count, Crawl, Gallery, Provenance
from pipeline.report.formatting import count, duration, period, size
from pipeline.report.picture_facts import Fact
from pipeline.report.readers.hub import HUB, cache_of, is_local, serve_command
from pipeline.run_folder import RunFolder
from shards.commits import Commit
from shards.dataset import Dataset


def read_provenance(
    run: RunFolder,
    config: dict[str, Any],
    dataset: Dataset | None,
    fingerprint: str | None,
    crawl: Crawl | None,
    gallery: Gallery | None,
    endpoint: str,
    events: Sequence[Mapping[str, Any]],
) -> Provenance:
    """Gather the facts from dataset.json, the commits, run.yaml and the events."""
    commits = [] if dataset is None else list(dataset.commits().values())
    facts = [] if crawl is None else [Fact("Catalog snapshot", ", ".join(crawl.snapshots) or "none", code=True)]
    if dataset is not None:
        facts += _dataset_facts(dataset, fingerprint, commits)
    facts += _trouble(events)
    generated = [commit for commit in commits if commit.label == 1]
    return Provenance(
        facts=tuple(facts),
        environments=_environments(generated),
        versions=_versions(generated),
        config=run.config.read_text(encoding="utf-8", errors="replace") if run.config.is_file() else None,
        regenerate=_regenerate_command(config, endpoint),
        local_hub=endpoint if is_local(endpoint) else None,
        serve_hub=serve_command(run, _output(config), endpoint),
        example_image=_example(gallery),
    )


def _dataset_facts(dataset: Dataset, fingerprint: str | None, commits: Sequence[Commit]) -> list[Fact]:
    stored = sum(file.bytes for commit in commits for file in commit.files)
    facts = [
        Fact("Dataset", dataset.name),
        Fact("Fingerprint", fingerprint or "", code=True),
        Fact("Schema version", str(dataset.manifest.schema_version)),
        Fact("Units committed", count(len(commits))),
        Fact("Stored", size(stored)),
    ]
    retried = sum(commit.generation > 0 for commit in commits)
    if retried:
        facts.append(Fact("Units in a later generation", count(retried)))
    if commits:
        times = sorted(commit.committed_at for commit in commits)
        facts += [
            Fact("Committed", period(times[0], times[-1])),
            Fact("Work", f"{duration(sum(commit.seconds for commit in commits))} on {_hosts(commits)}"),
        ]
    return facts


def _hosts(commits: Sequence[Commit]) -> str:
    hosts = {commit.host for commit in commits}
    return "1 machine" if len(hosts) == 1 else f"{count(len(hosts))} machines"


def _environments(commits: Sequence[Commit]) -> tuple[Count, ...]:
    """Environment -> draws made in it."""
    draws: Counter[str] = Counter()
    for commit in commits:
        if commit.environment is not None:
            draws[commit.environment] += commit.draws
    return tuple(Count(name, value) for name, value in sorted(draws.items(), key=lambda item: (-item[1], item[0])))


def _versions(commits: Sequence[Commit]) -> tuple[Fact, ...]:
    versions: dict[str, set[str]] = defaultdict(set)
    for commit in commits:
        for library, version in commit.versions.items():
            versions[library].add(version)
    return tuple(Fact(library, ", ".join(sorted(found)), code=True) for library, found in sorted(versions.items()))


def _trouble(events: Sequence[Mapping[str, Any]]) -> list[Fact]:
    """How much of the work had to be done again, or was given up."""
    happened = Counter(event.get("event") for event in events)
    shown = {"retry": "Retries", "given_up": "Units given up", "interrupted": "Interruptions"}
    return [Fact(name, count(happened[event])) for event, name in shown.items() if happened[event]]


def _example(gallery: Gallery | None) -> str | None:
    if gallery is None:
        return None
    return next((picture.image_id for entry in gallery.generators for picture in entry.pictures), None)


def _output(config: dict[str, Any]) -> str:
    return str(config.get("output") or "RUN")


def _regenerate_command(config: dict[str, Any], endpoint: str) -> tuple[str, str]:
    """What stands before and after the image id in the command that makes an image again as this run made it."""
    execute = config.get("execute")
    device = execute.get("device") if isinstance(execute, dict) else None
    options = {
        "--endpoint": None if endpoint == HUB else endpoint,
        "--cache": cache_of(config),
        "--device": None if device in (None, "auto") else str(device),
    }
    given = "".join(f" {name} {shlex.quote(value)}" for name, value in options.items() if value is not None)
    return f"commforge dataset regenerate {shlex.quote(f'{_output(config)}/dataset')} ", f" --verify{given}"
