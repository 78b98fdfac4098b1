"""The toy world, served once for all tests of the pipeline, and runs that are ready to be worked on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_cluster import ray_cluster
from toy_runs import ToyWorld, commforge, copy_run, environment, small_config, write_yaml

from crawlers.hub_server.server import HubServer
from pipeline.demo.photos import build_photos
from pipeline.demo.toy_hub import build_toy_hub


@pytest.fixture(scope="session")
def toy_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToyWorld]:
    """Every toy model on a hub that answers, and the photographs."""
    root = tmp_path_factory.mktemp("toy")
    build_toy_hub(root / "hub")
    build_photos(root / "photos")
    with HubServer(root / "hub") as hub:
        yield ToyWorld(root, hub.endpoint)


@pytest.fixture(scope="session")
def prepared(toy_world: ToyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with catalog, real images and prompts, and no fake yet."""
    folder = tmp_path_factory.mktemp("prepared")
    config = write_yaml(folder / "config.yaml", small_config(toy_world, folder / "run"))
    for stage in ("crawl", "caption"):
        done = commforge(stage, config)
        assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture(scope="session")
def undisturbed(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared run, sampled to the end by one inline worker that nobody disturbed."""
    run = copy_run(prepared, tmp_path_factory.mktemp("undisturbed") / "run")
    done = commforge("sample", run / "run.yaml")
    assert done.returncode == 0, done.stderr
    return run


@pytest.fixture
def fresh_run(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the prepared run."""
    return copy_run(prepared, tmp_path / "run")


@pytest.fixture(scope="session", name="ray_cluster")
def _ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Ray cluster of this test's own, as an address; drivers come and go, it stays."""
    with ray_cluster(tmp_path_factory.mktemp("ray") / "ray.log", environment()) as address:
        yield address
