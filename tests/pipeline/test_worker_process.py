"""A worker's death is an event with a signal number, a hang is ended, and no worker outlives its parent."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from manifests.real_source import RealSource
from manifests.unit import RealImage, RealUnitSpec
from pipeline.demo.photos import build_photos
from pipeline.tasks import Died, Done, Failed, Task
from pipeline.worker_config import WorkerConfig
from pipeline.worker_process import WorkerProcess
from shards.dataset import Dataset
from shards.identifiers import sha256_file
from shards.statuses import Reason


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    build_photos(folder)
    return folder


@pytest.fixture
def config(tmp_path: Path) -> WorkerConfig:
    Dataset.create(tmp_path / "dataset", "test", {})
    return WorkerConfig(
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


def _task(photos: Path) -> Task:
    path = sorted(photos.glob("*.png"))[0]
    image = RealImage(path=path.name, sha256=sha256_file(path), split="train")
    return Task(RealUnitSpec(source=RealSource(name="photos", path=photos), folder=photos, first=0, images=(image,)))


def _when_started(worker: WorkerProcess, act: "signal.Signals", then: float) -> threading.Thread:
    def send() -> None:
        while worker.pid is None:
            time.sleep(0.02)
        time.sleep(then)
        os.kill(worker.pid, act)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_death_tells_its_signal_and_the_next_task_gets_a_new_worker(
    config: WorkerConfig, photos: Path, number: signal.Signals
) -> None:
    worker = WorkerProcess(config, "worker")
    try:
        killer = _when_started(worker, number, 0.3)  # while it imports: the task is waiting
        outcome = worker.run(_task(photos))
        killer.join()
        assert isinstance(outcome, Died)
        assert (outcome.signal, outcome.fresh_worker) == (number, True)
        assert isinstance(worker.run(_task(photos)), Done)
    finally:
        worker.stop()


def test_a_hang_is_ended_and_named(config: WorkerConfig, photos: Path) -> None:
    worker = WorkerProcess(
        WorkerConfig(**{**{name: getattr(config, name) for name in config.__dataclass_fields__}, "unit_timeout": 1.0}),
        "worker",
    )
    try:
        stopper = _when_started(worker, signal.SIGSTOP, 0.1)
        outcome = worker.run(_task(photos))
        stopper.join()
        assert isinstance(outcome, Failed)
        assert outcome.reason is Reason.unit_timeout
        assert worker.pid is None
    finally:
        worker.stop()


def test_a_worker_ends_soon_after_its_parent_was_killed(config: WorkerConfig) -> None:
    script = (
        "import pickle, sys, time\n"
        "from pipeline.worker_process import WorkerProcess\n"
        "worker = WorkerProcess(pickle.loads(bytes.fromhex(sys.argv[1])), 'worker')\n"
        "worker.start()\n"
        "print(worker.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    import pickle

    parent = subprocess.Popen(
        [sys.executable, "-c", script, pickle.dumps(config).hex()], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    time.sleep(1.0)
    parent.kill()
    parent.wait()
    gone, _ = psutil.wait_procs([child], timeout=10)
    assert gone, "the worker samples on for nobody"


def test_a_file_that_changed_since_the_plan_is_a_failure_with_a_name(
    config: WorkerConfig, photos: Path, tmp_path: Path
) -> None:
    task = _task(photos)
    changed = tmp_path / "changed"
    changed.mkdir()
    name = task.work.images[0].path
    (changed / name).write_bytes((photos / name).read_bytes() + b"x")
    worker = WorkerProcess(config, "worker")
    try:
        outcome = worker.run(Task(task.work.model_copy(update={"folder": changed})))
    finally:
        worker.stop()
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.checksum_mismatch
    assert name in outcome.detail
