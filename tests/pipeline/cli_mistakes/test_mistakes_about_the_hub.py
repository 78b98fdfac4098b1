"""A hub or a repo that is not there is told at once, by its address and name."""

import time
from pathlib import Path

from mistakes import Refused, mistaken_config
from toy_runs import ToyWorld, small_config, write_yaml


def test_dead_endpoint(refused: Refused, tmp_path: Path, dead_endpoint: str) -> None:
    hub = {"endpoint": dead_endpoint, "cache": str(tmp_path / "cache")}
    for command in ("crawl", "caption"):
        started = time.monotonic()
        refused(command, mistaken_config(tmp_path, hub=hub), says=(dead_endpoint, "the hub does not answer", "refused"))
        assert time.monotonic() - started < 30
    assert not (tmp_path / "run" / "catalog.parquet").exists()
    assert not (tmp_path / "run" / "dataset" / "dataset.json").exists()


def test_repo_that_is_not_there(refused: Refused, tmp_path: Path, toy_world: ToyWorld) -> None:
    config = small_config(toy_world, tmp_path / "run", sample={"checker": {"repo_id": "toy/nope"}})
    says = ("toy/nope", "no such repo", toy_world.endpoint)
    refused("caption", write_yaml(tmp_path / "config.yaml", config), says=says)
    assert not (tmp_path / "run" / "dataset" / "dataset.json").exists()


def test_hub_serve(refused: Refused, tmp_path: Path, toy_world: ToyWorld) -> None:
    refused("hub", "serve", tmp_path / "nope", says=(str(tmp_path / "nope"), "no such folder"))
    (tmp_path / "empty").mkdir()
    refused("hub", "serve", tmp_path / "empty", says=(str(tmp_path / "empty"), "no repo", "models/<owner>/<name>"))
    port = toy_world.endpoint.rsplit(":", 1)[1]
    refused("hub", "serve", toy_world.root / "hub", "--port", port, says=(f"127.0.0.1:{port}", "another program"))
    refused("hub", "serve", toy_world.root / "hub", "--port", "99999", says=("--port", "'99999'", "65535"))
