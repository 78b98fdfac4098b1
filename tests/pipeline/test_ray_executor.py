"""Ray waits for ever and in silence; we say what is wrong with an address or a cluster, and use what there is."""

import json
import pickle
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy_runs import environment

from manifests.errors import InputError
from manifests.real_source import RealSource
from manifests.unit import RealImage, RealUnitSpec
from pipeline.config import ExecuteConfig
from pipeline.demo.photos import build_photos
from pipeline.executors.ray_capacity import check_capacity
from pipeline.executors.ray_probe import probe
from pipeline.tasks import Task
from pipeline.worker_config import WorkerConfig
from shards.dataset import Dataset
from shards.identifiers import sha256_file


def _nodes(*resources: tuple[float, float]) -> list[dict[str, object]]:
    dead = {"Alive": False, "Resources": {"CPU": 99.0, "GPU": 99.0}}
    return [dead, *({"Alive": True, "Resources": {"CPU": cpus, "GPU": gpus}} for cpus, gpus in resources)]


@pytest.mark.parametrize(
    ("nodes", "threads", "gpus", "fitting"),
    [
        ([(4, 0)], 1, 0, 4),
        ([(4, 0), (3, 0)], 2, 0, 3),  # the odd CPUs of two nodes make no worker
        ([(8, 2)], 1, 1, 2),
        ([(8, 2)], 1, 0.5, 4),
        ([(8, 2)], 1, 0.4, 4),  # two on each GPU, and a fifth would lie on both
        ([(8, 3)], 1, 2, 1),
        ([(1, 8)], 1, 0.1, 1),
        ([(64, 0)], 1, 0, 9),
    ],
)
def test_workers_that_fit(nodes: list[tuple[float, float]], threads: int, gpus: float, fitting: int) -> None:
    assert check_capacity(_nodes(*nodes), ExecuteConfig(workers=9, gpus_per_worker=gpus), threads) == fitting


@pytest.mark.parametrize(
    ("nodes", "threads", "gpus", "says"),
    [
        ([(4, 0)], 1, 1, ["execute.workers = 9", "execute.gpus_per_worker = 1", "4 CPUs and 0 GPUs"]),
        ([(2, 0), (2, 0)], 3, 0, ["sample.cpu_threads", "2 CPUs and 0 GPUs; 2 CPUs and 0 GPUs"]),
        ([(8, 1)], 1, 2, ["execute.gpus_per_worker = 2", "8 CPUs and 1 GPUs"]),
        ([(8, 8)], 1, 1.5, ["execute.gpus_per_worker = 1.5", "whole number"]),
        ([], 1, 0, ["nothing"]),
    ],
)
def test_a_cluster_that_can_hold_no_worker(
    nodes: list[tuple[float, float]], threads: int, gpus: float, says: list[str]
) -> None:
    with pytest.raises(InputError) as refused:
        check_capacity(_nodes(*nodes), ExecuteConfig(workers=9, gpus_per_worker=gpus), threads)
    assert [words for words in says if words not in str(refused.value)] == []


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_an_address_where_nobody_listens_is_known_at_once(form: str) -> None:
    with socket.socket() as bound:  # bound and not listening: refused, and nobody else can take it
        bound.bind(("127.0.0.1", 0))
        address = form.format(bound.getsockname()[1])
        started = time.monotonic()
        with pytest.raises(InputError, match=rf"execute\.ray_address: .*{address}.*refused"):
            probe(address)
        assert time.monotonic() - started < 5
        bound.listen()
        probe(address)


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "no-such-host.invalid:6379"])
def test_an_address_that_cannot_be_one(address: str) -> None:
    with pytest.raises(InputError, match=rf"execute\.ray_address.*{address}"):
        probe(address)


@pytest.mark.parametrize("address", ["auto", "garbage"])
def test_an_address_without_a_port_is_left_to_ray(address: str) -> None:
    probe(address)


SCRIPT = """
import json, pickle, sys, time
from manifests.errors import InputError
from pipeline.executors import make_executor

config, execute, task, deaths = pickle.loads(bytes.fromhex(sys.argv[1]))

def refusal(**changes):
    executor = make_executor(execute.model_copy(update=changes), config, deaths)
    try:
        executor.start()
    except InputError as error:
        return str(error)
    executor.close()

said = {"garbage": refusal(ray_address="garbage"), "gpu": refusal(gpus_per_worker=1.0)}
executor = make_executor(execute, config, deaths)
executor.start()
said["at first"] = executor.idle()
while len(executor.idle()) < 3:
    if executor.wait() is not None:
        raise SystemExit("an outcome of no task")
time.sleep(1)
said["placed"] = len(executor.idle())
import ray
lost = executor.idle()[1]
executor.submit(lost, task, fresh=False)
ray.kill(executor._actors[lost])
while (ended := executor.wait()) is None:
    pass
said["outcome"] = [ended[0] == lost, type(ended[1]).__name__, ended[1].signal]
while len(executor.idle()) < 3:
    executor.wait()
said["after"] = len(executor.idle())
executor.close()
print(json.dumps(said))
"""


def test_a_cluster_with_room_for_some_of_the_workers(ray_cluster: str, tmp_path: Path) -> None:
    """Four workers on three CPUs: three work, the fourth is waited for by nobody, and a lost one is replaced."""
    Dataset.create(tmp_path / "dataset", "test", {})
    (tmp_path / "photos").mkdir()
    build_photos(tmp_path / "photos")
    path = sorted((tmp_path / "photos").glob("*.png"))[0]
    image = RealImage(path=path.name, sha256=sha256_file(path), split="train")
    source = RealSource(name="photos", path=path.parent)
    task = Task(RealUnitSpec(source=source, folder=path.parent, first=0, images=(image,)))
    config = WorkerConfig(
        dataset=tmp_path / "dataset",
        spool=tmp_path / "spool",
        endpoint="http://127.0.0.1:9",
        token=None,
        cache=tmp_path / "cache",
        download_timeout=5.0,
        unit_timeout=60.0,
        cpu_threads=1,
        device="cpu",
    )
    execute = ExecuteConfig(workers=4, ray_address=ray_cluster)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, pickle.dumps((config, execute, task, tmp_path / "deaths")).hex()],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["garbage"].startswith("execute.ray_address: ")
    assert "execute.gpus_per_worker = 1" in said["gpu"]
    assert "3 CPUs and 0 GPUs" in said["gpu"]
    assert said["at first"] == [], "no worker has answered yet"
    assert said["placed"] == 3
    assert said["outcome"] == [True, "Died", 0]
    assert said["after"] == 3
    assert "room for 3 of 4" in done.stderr
