"""What a newcomer types first, and what they type next."""

import json
from pathlib import Path

import pytest
from toy_runs import commforge, installed_commforge

from crawlers.hub_server.server import HubServer
from pipeline.demo.bad_models import BAD_MODELS
from shards.dataset import Dataset


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's run, made by the command itself on two Ray workers."""
    run = tmp_path_factory.mktemp("demo") / "run"
    done = installed_commforge("demo", "--output", run, timeout=540)
    assert done.returncode == 0, done.stderr
    assert str(run / "report" / "index.html") in done.stdout
    assert "macro of 3" in done.stdout
    return run


def test_the_run_folder_is_as_documented(demo: Path) -> None:
    names = {path.name for path in demo.iterdir()} - {".catalog.lock"}
    assert names == {
        *("run.yaml", "catalog.parquet", "prompts.parquet", "dataset", "detectors", "report", "events.jsonl"),
        *("status.json", "toy"),
    }


def test_every_image_wanted_is_there_and_some_were_flagged(demo: Path) -> None:
    rows = Dataset.open(demo / "dataset").rows().to_pylist()
    fakes = [row for row in rows if row["label"] == 1]
    bad = {repo_id for repo_id, model in BAD_MODELS.items() if model.row_status}
    ok = dict.fromkeys({row["repo_id"] for row in fakes} - bad, 0)
    for row in fakes:
        ok[row["repo_id"]] = ok.get(row["repo_id"], 0) + (row["status"] == "ok") if row["repo_id"] not in bad else 0
    assert {repo_id: count for repo_id, count in ok.items() if repo_id not in bad} == dict.fromkeys(ok.keys() - bad, 24)
    assert len(ok.keys() - bad) == 8
    assert sum(row["status"] == "flagged" for row in fakes) >= 1
    assert sum(row["label"] == 0 for row in rows) >= 24
    assert {row["prompt_source"] for row in fakes} >= {"caption", "blip"}


def test_no_photograph_is_behind_both_a_train_and_a_test_image(demo: Path) -> None:
    rows = Dataset.open(demo / "dataset").rows(columns=["label", "split", "source_image_id"]).to_pylist()
    sides: dict[str, set[str]] = {}
    for row in rows:
        if row["source_image_id"] is not None:
            sides.setdefault(row["source_image_id"], set()).add(row["split"])
    assert all(len(found) == 1 for found in sides.values())
    assert {row["split"] for row in rows} == {"train", "test"}


def test_the_same_config_with_the_bad_models_named_exits_1_with_one_line(demo: Path) -> None:
    before = set((demo / "dataset" / "commits").iterdir())
    with HubServer(demo / "toy" / "hub") as hub:
        settings = [
            f"hub.endpoint={hub.endpoint}",
            f"hub.cache={demo / 'toy' / 'cache'}",
            f"output={demo}",
            f"crawl.models=[{', '.join(BAD_MODELS)}]",
        ]
        options = [part for setting in settings for part in ("--set", setting)]
        done = commforge("run", demo / "toy" / "config.yaml", *options)
    assert done.returncode == 1, done.stderr
    summary = done.stderr.strip().splitlines()[-1]
    for repo_id, model in BAD_MODELS.items():
        named = repo_id if model.row_status is None else repo_id.replace("/", "--")
        assert named in summary
    assert set((demo / "dataset" / "commits").iterdir()) == before, "nothing was sampled twice"


def test_what_a_data_engineer_types_next(demo: Path) -> None:
    verified = commforge("dataset", "verify", demo / "dataset", "--json")
    assert verified.returncode == 0, verified.stdout
    status = json.loads(commforge("status", demo, "--json").stdout)
    assert status["images_missing"] == 0
    assert status["running"] is False
    info = json.loads(commforge("dataset", "info", demo / "dataset", "--json").stdout)
    assert len(info["generators"]) == 11
    shown = json.loads(commforge("generator", "show", "inkwell/toy-sigma", demo, "--json").stdout)
    assert shown["params"]["sources"]["steps"] == "card"


def test_what_a_researcher_types_next(demo: Path) -> None:
    detector = demo / "detectors" / "tiny"
    options = ("--model", detector, "--data", demo / "dataset", "--split", "test", "--json")
    report = json.loads(commforge("detector", "evaluate", *options).stdout)
    assert report.keys() >= {"macro", "per_generator", "interval", "equalised"}
    saved = json.loads((detector / "evaluations" / "test" / "report.json").read_text())
    assert report["macro"] == saved["macro"], "the stage and the command agree"
    photo = next((demo / "toy" / "photos").glob("*.png"))
    predicted = json.loads(commforge("detector", "predict", "--model", detector, photo, "--json").stdout)
    assert 0 <= predicted[0]["score"] <= 1
