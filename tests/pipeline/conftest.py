"""The toy world, served once for all tests of the pipeline, and runs that are ready to be worked on."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
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


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Ray cluster of this test's own, as an address; drivers come and go, it stays."""
    ray = Path(sys.executable).with_name("ray")
    folder = Path(f"/tmp/commforge-ray-{os.getpid()}")  # Ray's sockets need a short path
    command = [ray, "start", "--head", "--port=0", "--num-cpus=3", "--include-dashboard=false", "--disable-usage-stats"]
    command += [f"--temp-dir={folder}", "--object-store-memory=200000000", "--block"]
    log = (tmp_path_factory.mktemp("ray") / "ray.log").open("w+")
    process = subprocess.Popen(
        command, stdout=log, stderr=log, env=environment() | {"RAY_AUTH_MODE": "token"}, start_new_session=True
    )
    try:
        yield _address(process, folder)
    finally:
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.wait(30)
        for member in family:
            if member.is_running():
                member.kill()


def _address(process: "subprocess.Popen[bytes]", folder: Path) -> str:
    current = folder / "ray_current_cluster"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the cluster did not start"
        if current.exists() and (address := current.read_text().strip()):
            return address
        time.sleep(0.2)
    raise TimeoutError("no Ray cluster after 60 s")
