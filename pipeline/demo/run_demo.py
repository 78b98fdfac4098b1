"""`commforge demo`: the same path that a real config takes, on the toy hub, with the outcome checked."""

import json
import re
import shutil
import time
from contextlib import nullcontext
from pathlib import Path

from crawlers.catalog import read_catalog
from crawlers.hub_server.server import HubServer
from manifests.errors import InputError
from pipeline.config import RunConfig
from pipeline.demo.bad_models import BAD_MODELS
from pipeline.demo.photos import build_photos
from pipeline.demo.toy_hub import build_toy_hub
from pipeline.exit_codes import ExitCode
from pipeline.progress import say
from pipeline.resolve import load_config
from pipeline.run_all import RunSummary, run_stages
from pipeline.run_folder import RunFolder
from shards.dataset import Dataset
from shards.run_lock import RunLock
from shards.statuses import Status

DEMO_CONFIG = Path(__file__).parent / "demo.yaml"
_RUN_ENTRIES = frozenset(
    {
        ".catalog.lock",
        "captions.parts",
        "catalog.parquet",
        "dataset",
        "deaths",
        "detectors",
        "events.1.jsonl",
        "events.jsonl",
        "prompts.parquet",
        "report",
        "run.yaml",
        "status.json",
        "toy",
    }
)


def run_demo(output: Path, *, executor: str, workers: int, keep_going: bool) -> ExitCode:
    """Build the toy world below `output`, run the job, check that it came out as it must, and say so.

    Raises:
        InputError: `output` holds something that is no demo.
    """
    started = time.monotonic()
    toy = output / "toy"
    if output.exists() and not keep_going:
        _clear(output)
    if not (toy / "config.yaml").exists():
        say(f"demo: building the toy hub in {toy} (13 tiny models, five of them bad on purpose)")
        build_world(toy)
    with HubServer(toy / "hub") as hub:
        settings = {
            "output": str(output),
            "hub.cache": str(toy / "cache"),
            "hub.endpoint": hub.endpoint,
            "execute.executor": executor,
            "execute.workers": workers,
        }
        config = load_config(toy / "config.yaml", tuple(f"{key}={json.dumps(v)}" for key, v in settings.items()))
        summary = run_stages(config)
    problems = check_outcome(config, summary)
    _print_table(summary)
    print(f"report: {summary.report}")
    say(f"demo: {time.monotonic() - started:.0f} s")
    for problem in problems:
        say(f"demo: NOT as expected: {problem}")
    return ExitCode.DONE_WITH_FAILURES if problems else ExitCode.DONE


def build_world(toy: Path) -> None:
    """Write the toy hub, the photographs and the config that uses them; the config last, so it stands for the whole."""
    build_toy_hub(toy / "hub")
    build_photos(toy / "photos")
    shutil.copyfile(DEMO_CONFIG, toy / "config.yaml")


def check_outcome(config: RunConfig, summary: RunSummary) -> list[str]:
    """Return what did not come out as it must: bad models recognised as what they are, some images flagged."""
    folder = RunFolder.at(config.output)
    reasons = {row.repo_id: row.reason for row in read_catalog(folder.catalog)}
    rows = Dataset.open(folder.dataset).rows(columns=["repo_id", "status", "generator"], label=1).to_pylist()
    statuses: dict[str, set[str]] = {}
    for row in rows:
        statuses.setdefault(row["repo_id"], set()).add(row["status"])
    problems = []
    for repo_id, model in BAD_MODELS.items():
        if reasons.get(repo_id) != model.catalog_reason:
            problems.append(f"{repo_id}: catalog reason {reasons.get(repo_id)}, not {model.catalog_reason}")
        expected = {model.row_status} if model.row_status else set()
        if statuses.get(repo_id, set()) != expected:
            problems.append(f"{repo_id}: row statuses {statuses.get(repo_id, set())}, not {expected}")
    wanted = config.sample.images_per_generator
    good = {repo_id for repo_id, found in statuses.items() if repo_id not in BAD_MODELS}
    if len(good) != 8:
        problems.append(f"{len(good)} working generators, not 8")
    for repo_id in sorted(good):
        ok = sum(row["repo_id"] == repo_id and row["status"] == Status.ok for row in rows)
        if ok < wanted:
            problems.append(f"{repo_id}: {ok} images, not {wanted}")
    if not any(row["status"] == Status.flagged for row in rows):
        problems.append("no image was flagged")
    if not summary.evaluations:
        problems.append("no detector was evaluated")
    return problems


def _print_table(summary: RunSummary) -> None:
    from pipeline.detector_commands import print_evaluation

    for evaluation in summary.evaluations.values():
        print_evaluation(evaluation)


def _clear(output: Path) -> None:
    """Remove an earlier demo that nobody works on, and nothing else."""
    foreign = output.is_symlink() or not output.is_dir()
    if not foreign and any(output.iterdir()):
        names = {entry.name for entry in output.iterdir()}
        foreign = not (output / "toy" / "config.yaml").is_file() or any(not _is_ours(name) for name in names)
    if foreign:
        raise InputError(f"--output {output}: this is not an earlier demo; choose a folder that does not exist yet")
    try:
        with RunLock(output / "dataset") if (output / "dataset").is_dir() else nullcontext():
            shutil.rmtree(output)
    except OSError as error:
        raise InputError(f"--output {output}: the earlier demo cannot be removed: {error.strerror}") from error


def _is_ours(name: str) -> bool:
    """Tell whether a run leaves an entry of this name in its folder."""
    return name in _RUN_ENTRIES or re.fullmatch(r"catalog-.*\.parquet|catalog\..*\.part", name) is not None
