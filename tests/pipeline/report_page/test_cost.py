"""Seconds per model and the share of identical parts: on the page, and in report.json for programs."""

import json
from pathlib import Path
from typing import Any

import pytest
from report_page import Page, page_of
from report_run import RunBuilder, typical_run
from toy_runs import commforge

from manifests.generator import SamplingParams
from pipeline.events import EventLog
from pipeline.report.build import numbers_path

SLOW, QUICK, BROKEN = "toy--stable-diffusion", "toy--pixart-sigma", "toy--ddpm-faces"
FILES: dict[str, list[tuple[str, str, int]]] = {
    # repo -> files of (path, content, bytes)
    "toy/one": [("vae/model.safetensors", "a", 100), ("unet/model.safetensors", "b", 1000)],
    "toy/two": [("vae/model.safetensors", "a", 100), ("unet/model.safetensors", "c", 1000)],
    "toy/three": [("vae/model.safetensors", "d", 100)],
    "toy/left-out": [("vae/model.safetensors", "a", 100)],
}


def _end(log: EventLog, event: str, group: str, **usage: float) -> None:
    log.write(event, unit="u", group=group, usage={"waited": 0.0, "loading": 0.0, "sampling": 0.0} | usage)


@pytest.fixture
def timed(tmp_path: Path) -> Path:
    """A run whose events tell of every unit but that of one generator."""
    root = tmp_path / "run"
    typical_run(root)
    log = EventLog(root / "events.jsonl")
    log.write("leased", unit="u", group=SLOW)
    _end(log, "retry", SLOW, waited=30.0)
    _end(log, "done", SLOW, waited=1.0, loading=9.0, sampling=50.0)
    _end(log, "done", QUICK, sampling=4.5)
    _end(log, "given_up", BROKEN, loading=5.0)
    _end(log, "done", "photos", sampling=1000.0)
    _end(log, "done", "captioner", sampling=1000.0)
    log.write("retry", unit="u", group=SLOW, signal=9)  # a death: nobody knows what it spent
    log.close()
    return root


def test_seconds_per_model_slowest_first(timed: Path) -> None:
    page = page_of(timed)
    assert [row[:7] for row in page.tables["Seconds per model"][1:]] == [
        [f"{SLOW}\n1 unit, 1 try in vain", "1 min 30 s", "31.0 s", "9.0 s", "50.0 s", "12", "7.50 s"],
        [f"{BROKEN}\n0 units, 1 try in vain", "5.0 s", "0.0 s", "5.0 s", "0.0 s", "3", "1.67 s"],
        [f"{QUICK}\n1 unit", "4.5 s", "0.0 s", "0.0 s", "4.5 s", "9", "0.50 s"],
        ["All generators", "1 min 40 s", "31.0 s", "14.0 s", "54.5 s", "24", "4.15 s"],
    ]
    assert "events.jsonl still tells of 3 of 4 units" in page.text


def test_a_run_without_events_says_so(page: Page, copy: Path) -> None:
    assert "Nothing is known of the workers’ time" in page.text
    assert "Seconds per model" not in page.tables
    page_of(copy)
    assert json.loads(numbers_path(copy).read_text())["time"] is None


def test_the_numbers_are_there_for_programs(timed: Path) -> None:
    told = commforge("report", timed, "--json")
    assert told.returncode == 0 and told.stdout == numbers_path(timed).read_text(encoding="utf-8")
    numbers: dict[str, Any] = json.loads(told.stdout)
    assert numbers["models"] == {
        "crawled": 7,
        "eligible": 4,
        "reasons": {"ok": 4, "gated": 1, "gone": 1, "pickle_only": 1},
    }
    assert numbers["draws"] == {
        "generators": 4,
        "draws": 44,
        "ok": 34,
        "flagged": 3,
        "degenerate": 1,
        "failed": 6,
        "real_images": 12,
    }
    time = numbers["time"]
    assert (time["units_told"], time["units_committed"]) == (3, 4)
    assert [model["generator"] for model in time["models"]] == [SLOW, BROKEN, QUICK]
    assert time["models"][0] == {
        "generator": SLOW,
        "images": 12,
        "units": 1,
        "in_vain": 1,
        "waiting": 31.0,
        "loading": 9.0,
        "sampling": 50.0,
        "seconds": 90.0,
        "seconds_per_image": 7.5,
    }
    assert time["total"]["seconds"] == sum(model["seconds"] for model in time["models"]) == 99.5


def test_a_model_without_an_image_has_no_time_per_image(timed: Path) -> None:
    builder = RunBuilder(timed)
    builder.fakes("toy/gated", ["device_oom"], seed=9)
    log = EventLog(timed / "events.jsonl")
    _end(log, "given_up", "toy--gated", loading=100.0)
    log.close()
    assert page_of(timed).tables["Seconds per model"][1][:7] == [
        "toy--gated\n0 units, 1 try in vain", "1 min 40 s", "0.0 s", "1 min 40 s", "0.0 s", "0", "–",
    ]  # fmt: skip
    assert json.loads(numbers_path(timed).read_text())["time"]["models"][0]["seconds_per_image"] is None


def test_the_share_of_identical_parts(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path)
    for repo, files in FILES.items():
        listed = tuple({"path": path, "size": size, "sha256": content * 64} for path, content, size in files)
        builder.model(repo, "gated" if repo == "toy/left-out" else "ok", files=listed)
    builder.write_catalog()
    page = page_of(tmp_path)
    assert [row[:6] for row in page.tables["Identical parts of whole pipelines"][1:]] == [
        ["vae", "3", "2", "2", "100 B", "33.3%"],
        ["unet", "2", "2", "0", "0 B", "0.0%"],
    ]
    assert "2 of 3 pipelines have a part that another has too" in page.text
    assert "fetched once: 2.1 KiB instead of 2.2 KiB" in page.text
    told = json.loads(numbers_path(tmp_path).read_text())["components"]
    assert [(part["name"], round(part["identical_share"], 3)) for part in told["parts"]] == [
        ("vae", 0.333),
        ("unet", 0),
    ]
    assert (told["bytes_naive"], told["bytes_unique"], round(told["sharing_share"], 3)) == (2300, 2200, 0.667)


def test_parameters_say_where_each_came_from(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path)
    told = {"trigger_words": "metadata", "adapter_scale": "card", "negative_prompt": "base card", "eta": "name"}
    params = {"trigger_words": ("toydoodle", "b"), "adapter_scale": 0.5, "negative_prompt": "dark"}
    builder.model("toy/lora", params=SamplingParams(**params, call_kwargs={"eta": 0.3}, sources=told))
    builder.write_catalog()
    (row,) = page_of(tmp_path).tables["Crawled models"][1:]
    assert (
        row[-1] == "negative prompt dark base cardtrigger words toydoodle, b metadataadapter scale 0.5 cardeta 0.3 name"
    )
