"""`commforge status`: true, quick, and in nobody's way."""

import json
import os
import shutil
import signal
import socket
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families
from toy_runs import commforge, copy_run, start_commforge

from captioning.prompt_table import append_prompts, read_prompts
from manifests.errors import InputError
from manifests.prompts import Prompt
from manifests.strict_yaml import load_model
from pipeline.config import RunConfig
from pipeline.context import open_run
from pipeline.events import EventLog, read_events
from pipeline.run_status import run_status
from pipeline.stages import sample as sample_stage
from pipeline.status_file import read_status, write_status
from pipeline.tasks import Failed
from shards.dataset import Dataset
from shards.run_lock import RunLock
from shards.statuses import Reason, Status


@pytest.fixture
def sampled(undisturbed: Path, tmp_path: Path) -> Path:
    return copy_run(undisturbed, tmp_path / "run")


def _counts(run: Path, label: int = 1) -> Counter[str]:
    """What the rows themselves say."""
    return Counter(Dataset.open(run / "dataset").rows(columns=["status"], label=label)["status"].to_pylist())


def test_a_finished_run(sampled: Path) -> None:
    status = json.loads(commforge("status", sampled, "--json", "--all").stdout)
    counts = _counts(sampled)
    models = len(status["generators"])
    assert status["running"] is False and status["driver"] is None
    assert status["models"] == {"total": models, "done": models} | dict.fromkeys(
        ("failed", "quarantined", "running", "waiting"), 0
    )
    assert status["images"] == {
        "wanted": 6 * models,
        "missing": 0,
        "failed": 0,
        "lost": 6 * models - counts["ok"],
        **{name: counts[name] for name in ("ok", "flagged", "degenerate")},
    }
    assert status["images_missing"] == 0 and status["eta_seconds"] == 0.0
    assert status["images_per_second"] > 0 and 0 <= status["idle_share"] <= 1
    usages = [event["usage"] for event in read_events(sampled / "events.jsonl") if event["event"] == "done"]
    fakes = usages[-status["units_committed"] :]  # before them: the photographs
    for name in ("fetched", "saved"):
        assert status[f"bytes_{name}"] == sum(usage[name] for usage in fakes)
    assert status["bytes_stored"] == sum(
        commit.images.bytes for commit in Dataset.open(sampled / "dataset").commits().values() if commit.label == 1
    ) + sum(commit.images.bytes for commit in Dataset.open(sampled / "dataset").commits().values() if commit.label == 0)
    short = commforge("status", sampled)
    assert short.returncode == 0 and f"{models} generators without trouble: --all lists them" in short.stdout
    assert f"images: {counts['ok']} of {6 * models}, {6 * models - counts['ok']} lost, 0 missing" in short.stdout
    assert "not running" in short.stdout and "Traceback" not in short.stderr


def test_watching_ends_with_the_run(sampled: Path) -> None:
    watched = commforge("status", sampled, "--watch")
    assert watched.returncode == 0 and watched.stdout.count("not running") == 1
    refused = commforge("status", sampled, "--watch", "--json")
    assert refused.returncode == 2 and "--watch: not with --json" in refused.stderr


def test_ctrl_c_ends_watching_and_nothing_else(sampled: Path, tmp_path: Path) -> None:
    with RunLock(sampled / "dataset"):
        watching = start_commforge(["status", sampled, "--watch"], tmp_path / "log")
        deadline = time.monotonic() + 120
        while b"small: running" not in (tmp_path / "log").read_bytes():
            assert watching.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        watching.send_signal(signal.SIGINT)
        assert watching.wait(60) == 0
    said = (tmp_path / "log").read_text()
    assert "stopped" not in said and "Traceback" not in said


def test_asking_writes_nothing_and_takes_nothing(sampled: Path) -> None:
    def files() -> dict[str, tuple[int, int]]:
        paths = [path for path in sampled.rglob("*") if path.is_file()]
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in paths}

    before = files()
    run_status(sampled)
    assert files() == before


def test_a_run_that_starts_while_it_is_asked_about_is_not_refused(sampled: Path) -> None:
    over = threading.Event()
    asked = []

    def ask() -> None:
        while not over.is_set():
            asked.append(run_status(sampled)["running"])

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    try:
        for _ in range(30):
            with RunLock(sampled / "dataset"):
                pass
    finally:
        over.set()
        for asker in askers:
            asker.join()
    assert asked
    with RunLock(sampled / "dataset"):
        assert run_status(sampled)["driver"] == {"pid": os.getpid(), "host": os.uname().nodename}


def test_while_it_runs_it_says_who_works_at_what_and_the_metrics_agree_with_the_commits(
    fresh_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real run with inline workers: asked in the middle, scraped over HTTP in the middle and at the end."""
    cache = tmp_path / "empty cache"
    settings = ("execute.metrics_port=0", f"hub.cache={cache}")
    config = load_model(fresh_run / "run.yaml", RunConfig, settings)
    seen: list[dict[str, Any]] = []
    scrapes: list[dict[tuple[str, str], float]] = []
    said: list[str] = []
    monkeypatch.setattr("pipeline.metrics.say", said.append)
    monkeypatch.setattr("pipeline.sampling_watch.SNAPSHOT_SECONDS", 0.01)
    commit_done = sample_stage.commit_done

    def scrape() -> dict[tuple[str, str], float]:
        (address,) = [words.split()[-1] for words in said if words.startswith("metrics: ")]
        with urllib.request.urlopen(address, timeout=10) as answer:
            text = answer.read().decode()
        return {
            (sample.name, ",".join(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def watched_commit(context: Any, done: Any, prompts: int | None = None) -> Any:
        commit = commit_done(context, done, prompts)
        if len(seen) == 0:
            threading.Event().wait(0.1)  # a snapshot is written meanwhile
            seen.append(run_status(fresh_run))
            scrapes.append(scrape())
        return commit

    monkeypatch.setattr(sample_stage, "commit_done", watched_commit)
    with open_run(config) as context:
        outcome = sample_stage.sample(context)
        scrapes.append(scrape())
        last = run_status(fresh_run)
    with pytest.raises(OSError, match="refused"):
        scrape()
    counts = _counts(fresh_run)
    (middle,) = seen
    running = [entry["generator"] for entry in middle["generators"] if entry["state"] == "running"]
    assert len(running) == middle["models"]["running"] == 1
    assert middle["running"] and middle["driver"]["pid"] == os.getpid()
    assert scrapes[0]["commforge_units_running", ""] == 1
    end = scrapes[1]
    for outcome_name in ("ok", "flagged", "degenerate", "failed"):
        assert end["commforge_images", outcome_name] == counts[outcome_name]
    assert end["commforge_units_ended_total", ""] == outcome.units == end["commforge_commit_seconds_count", ""]
    assert end["commforge_models", "done"] == last["models"]["done"] == last["models"]["total"]
    assert end["commforge_images_lost", ""] == last["images"]["lost"]
    assert end["commforge_images_missing", ""] == 0 == end["commforge_units_waiting", ""]
    blobs = [path.stat() for path in cache.glob("*/blobs/*")]
    kept = {blob.st_ino: blob.st_size for blob in blobs}  # a blob that two models share is one file
    assert end["commforge_fetched_bytes_total", ""] == last["bytes_fetched"] == sum(kept.values()) > 0
    # What several models hold of it: one fetched each blob, the others found it.
    found_again = sum(blob.st_size for blob in blobs) - sum(kept.values())
    assert end["commforge_saved_bytes_total", ""] == last["bytes_saved"] == found_again > 0
    assert end["commforge_device_idle_share", ""] == last["idle_share"]
    assert end["process_resident_memory_bytes", ""] > 10**7
    assert read_status(fresh_run / "status.json")["units"] == {"waiting": 0, "running": 0, "ended": outcome.units}


def test_a_taken_port_is_named(fresh_run: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = load_model(fresh_run / "run.yaml", RunConfig, (f"execute.metrics_port={port}",))
        with pytest.raises(InputError, match=rf"execute\.metrics_port = {port}: .*in use"), open_run(config):
            pass


def test_a_failed_unit_is_made_again_with_the_prompts_it_had_after_the_table_grew(
    fresh_run: Path,
) -> None:
    """All units of a model fail, the prompt table grows, and `--retry` makes the very same units."""
    prompts = read_prompts(fresh_run / "prompts.parquet")
    names = pq.read_table(fresh_run / "catalog.parquet", columns=["generator"])["generator"].to_pylist()
    generator = next(name for name in names if "diffusion" in name)
    config = load_model(fresh_run / "run.yaml", RunConfig, ("execute.attempts=1",))
    broken: list[str] = []

    class Broken:
        """Workers under which every unit of one generator fails."""

        def __init__(self, executor: Any) -> None:
            self._executor, self._failed = executor, []

        def __getattr__(self, name: str) -> Any:
            return getattr(self._executor, name)

        def submit(self, worker: int, task: Any, *, fresh: bool) -> None:
            if task.group == generator:
                broken.append(task.id)
                self._failed.append(Failed(task, Reason.sampling_error, "a fault of this test's"))
            else:
                self._executor.submit(worker, task, fresh=fresh)

        def idle(self) -> list[int]:
            return [] if self._failed else self._executor.idle()

        def wait(self, timeout: float | None = None) -> Any:
            return (0, self._failed.pop()) if self._failed else self._executor.wait(timeout)

    with open_run(config) as context:
        context._executor = Broken(context.executor())
        outcome = sample_stage.sample(context)
        context._executor = context._executor._executor
    assert outcome.failed_units == {generator: "sampling_error"} and broken
    log = Dataset.open(fresh_run / "dataset").log
    assert {log.summaries()[unit].prompts for unit in broken} == {
        len([prompt for prompt in prompts if prompt.split == "train"])
    }
    status = run_status(fresh_run)
    entry = next(e for e in status["generators"] if e["generator"] == generator)
    assert (entry["state"], entry["reason"], entry["failed"], entry["lost"]) == ("failed", "sampling_error", 6, 6)
    assert status["images"]["lost"] == status["images"]["wanted"] - status["images"]["ok"] >= 6
    append_prompts(
        fresh_run / "prompts.parquet",
        [
            Prompt(prompt_id=f"new{number}", prompt=f"new {number}", prompt_source="caption", split=split)
            for number in range(7)
            for split in ("train", "test")
        ],
    )
    with open_run(config) as context:
        assert sample_stage.sample(context, [Status.crashed]).failed_units == {}
    winners = Dataset.open(fresh_run / "dataset").summaries()
    assert {unit: winners[unit].generation for unit in broken} == dict.fromkeys(broken, 1)
    assert {unit: winners[unit].prompts for unit in broken} == {unit: log.summaries()[unit].prompts for unit in broken}
    rows = Dataset.open(fresh_run / "dataset").rows(generator=generator).to_pylist()
    assert {row["unit"] for row in rows} == set(broken)
    assert not {row["prompt_id"] for row in rows} - {prompt.prompt_id for prompt in prompts}
    assert run_status(fresh_run)["models"]["failed"] == 0


def test_events_are_kept_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.events.ROTATE_BYTES", 1000)
    log = EventLog(tmp_path / "events.jsonl")
    heard: list[tuple[str, int]] = []
    with log.heard_by(lambda event, fields: heard.append((event, fields["number"]))):
        for number in range(100):
            log.write("step", number=number)
    log.write("after", number=100)
    log.close()
    log.write("again", number=101)
    assert heard == [("step", number) for number in range(100)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.1.jsonl", "events.jsonl"]
    assert all(path.stat().st_size < 1100 for path in tmp_path.iterdir())
    kept = [event["number"] for event in read_events(tmp_path / "events.jsonl")]
    assert kept == list(range(kept[0], 102)) and kept[0] > 0
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"time": 1, "eve')
    assert [event["number"] for event in read_events(tmp_path / "events.jsonl")] == kept


def test_the_time_left_is_that_of_the_images_which_commits_cover(sampled: Path) -> None:
    """Also while most draws are flagged, or fail: the images that were made say nothing of it."""
    text = (sampled / "run.yaml").read_text()
    assert "images_per_generator: 6" in text
    (sampled / "run.yaml").write_text(text.replace("images_per_generator: 6", "images_per_generator: 10"))
    models = run_status(sampled)["models"]["total"]
    write_status(sampled / "status.json", {"images_per_second": 40.0, "covered_per_second": 0.5, "totals": {}})
    status = run_status(sampled)
    assert (status["images_missing"], status["eta_seconds"]) == (4 * models, 8.0 * models)
    write_status(sampled / "status.json", {"images_per_second": 40.0, "totals": {}})  # of an earlier commforge
    assert run_status(sampled)["eta_seconds"] is None


def test_a_status_file_that_cannot_be_read_or_written_stops_nobody(sampled: Path, tmp_path: Path) -> None:
    (sampled / "status.json").write_text("{")
    assert run_status(sampled)["images_missing"] == 0
    (sampled / "status.json").unlink()
    status = run_status(sampled)
    assert (status["images_per_second"], status["bytes_fetched"], status["retried"]) == (None, None, 0)
    assert commforge("status", sampled).returncode == 0
    assert write_status(tmp_path / "absent" / "status.json", {}) is False
    shutil.rmtree(sampled / "dataset")
    with pytest.raises(InputError, match="no dataset here"):
        run_status(sampled)
