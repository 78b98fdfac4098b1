"""A mistake in a config or an option ends with exit code 2 and one clear message, before anything is written."""

from pathlib import Path
from typing import Any

import pytest
from mistakes import Refused, mistaken_config


@pytest.mark.parametrize("command", ["run", "crawl", "caption", "sample"])
def test_config_that_is_not_there(refused: Refused, tmp_path: Path, command: str) -> None:
    refused(command, tmp_path / "nope.yaml", says=(str(tmp_path / "nope.yaml"), "no such file"))


def test_config_that_is_a_folder(refused: Refused, tmp_path: Path) -> None:
    refused("run", tmp_path, says=(str(tmp_path), "folder", "YAML file is needed"))


def test_config_that_is_not_yaml(refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("name: x\noutput: [runs/a\n")
    refused("run", path, says=(f"{path}:3:1", "'['"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"smaple": {}},
            ("config.yaml:6", "smaple = {}: unknown key", "did you mean sample?", "Allowed here: name, output"),
        ),
        ({"sample": {"batchsize": 2}}, ("sample.batchsize = 2", "did you mean batch_size?")),
        ({"crawl": {"count": -3}}, ("config.yaml:4", "crawl.count = -3", "at least 0")),
        ({"sample": {"images_per_generator": 0}}, ("sample.images_per_generator = 0", "at least 1")),
        ({"execute": {"executor": "slurm"}}, ('execute.executor = "slurm"', "'inline' or 'ray'")),
        ({"execute": {"device": "tpu"}}, ('execute.device = "tpu"', "'cuda'")),
        ({"execute": {"workers": "two"}}, ('execute.workers = "two"', "a whole number, at least 1")),
        ({"crawl": {"models": ["stable"]}}, ('crawl.models.0 = "stable"', "owner/name")),
        ({"hub": {"endpoint": "localhost:80"}}, ('hub.endpoint = "localhost:80"', "http")),
        ({"output": "s3://bucket/run"}, ("s3:", "object stores", "not supported")),
        ({"crawl": {}}, ("nothing is asked for", "crawl.count", "crawl.models", "crawl.manifests")),
        ({"crawl": {"manifests": ["gone.yaml"]}}, ("gone.yaml", "no such file")),
    ],
)
def test_wrong_key_or_value(refused: Refused, tmp_path: Path, changes: dict[str, Any], says: tuple[str, ...]) -> None:
    refused("crawl", mistaken_config(tmp_path, **changes), says=says)
    assert not (tmp_path / "run" / "catalog.parquet").exists()


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("execute.workers", ("--set execute.workers", "must be KEY=VALUE")),
        ("execute.wrokers=2", ("--set execute.wrokers=2", "unknown key", "did you mean workers?")),
        ("execute.workers=0", ("--set execute.workers=0", "execute.workers = 0", "at least 1")),
        ("name.x=1", ("--set name.x=1", "plain value")),
        ("crawl.models=[a", ("--set crawl.models=[a", "not closed")),
    ],
)
def test_bad_setting(refused: Refused, tmp_path: Path, setting: str, says: tuple[str, ...]) -> None:
    refused("run", mistaken_config(tmp_path), "--set", setting, says=says)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["crawl", "--count", "-3", "--out", "x"], ("--count", "'-3'", "greater than or equal to 0", "crawl --help")),
        (["sample", "--executor", "slurm"], ("--executor", "'slurm'", "'inline', 'ray'")),
        (["sample", "--worker", "3"], ("--worker", "--workers")),
        (["run"], ("CONFIG.yaml", "commforge run --help")),
        (["dataset", "inf", "x"], ("'inf'", "Did you mean 'info'?")),
        (["crawl"], ("give a CONFIG.yaml or --out",)),
        (["crawl", "--out", "s3://bucket/run", "--count", "1"], ("object stores", "not supported")),
        (["crawl", "--out", "x", "--count", "0"], ("nothing is asked for", "--count", "--model")),
        (["crawl", "--out", "x", "--model", "stable"], ("--model stable: ", 'crawl.models.0 = "stable"', "owner/name")),
        (["crawl", "--out", "x", "--model", "a/b, c/d]"], ("--model a/b, c/d]: ", "owner/name")),
        (["crawl", "--out", "x", "--count", "1", "--endpoint", "h # x"], ('hub.endpoint = "h # x"',)),
        (["sample"], ("CONFIG.yaml or --dataset",)),
        (["sample", "--dataset", "s3://bucket/d"], ("object stores", "not supported")),
        (["sample", "--dataset", "d", "--prompts", "nope.parquet"], ("--prompts nope.parquet", "no such file")),
        (["sample", "--dataset", "d", "--prompts", "."], ("--prompts .", "folder")),
        (["sample", "--dataset", "d", "--retry", "exploded"], ("--retry exploded", "no such status", "crashed")),
        (["sample", "--dataset", "d", "--retry", "flagged"], ("--retry flagged", "not tried again", "crashed")),
    ],
)
def test_wrong_options(refused: Refused, arguments: list[str], says: tuple[str, ...]) -> None:
    refused(*arguments, says=says)


@pytest.mark.parametrize(
    ("detector", "says"),
    [
        ({"architecture": "vgg"}, ("detectors: tiny", "architecture 'vgg' is unknown", "tiny-vit-64")),
        ({"train": {"iteration": 5}}, ("detectors: tiny", "iteration", "iterations")),
        ({"train": {"iterations": -5}}, ("detectors: tiny", "iterations = -5")),
    ],
)
def test_wrong_detector_is_told_before_anything_runs(
    refused: Refused, tmp_path: Path, detector: dict[str, Any], says: tuple[str, ...]
) -> None:
    detectors = [{"name": "tiny", "architecture": "tiny-vit-64"} | detector]
    refused("run", mistaken_config(tmp_path, detectors=detectors), says=says)
    assert not (tmp_path / "run").exists()
