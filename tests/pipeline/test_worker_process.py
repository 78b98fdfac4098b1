"""A worker's death is an event with a signal number, a hang is ended, and no worker outlives its parent."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
import torch

from crawlers.hub_server.server import HubServer
from manifests.errors import InputError
from manifests.real_source import RealSource
from manifests.unit import CheckerSpec, RealImage, RealUnitSpec
from pipeline.config import CaptionerConfig
from pipeline.demo.photos import build_photos
from pipeline.disk_errors import disk_refusals
from pipeline.driver import drive
from pipeline.events import EventLog
from pipeline.executors.inline import InlineExecutor
from pipeline.scheduler import Scheduler
from pipeline.tasks import Bug, CaptionChunk, Died, Done, Failed, Outcome, Task
from pipeline.work_queue import TaskGroup
from pipeline.worker import Worker
from pipeline.worker_config import WorkerConfig
from pipeline.worker_process import WorkerProcess
from samplers.component_store import ComponentStore
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
    return _config(tmp_path)


def _config(tmp_path: Path) -> WorkerConfig:
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


def _when_started(
    worker: WorkerProcess, act: "signal.Signals", then: float, process_ids: list[int] | None = None
) -> threading.Thread:
    def send() -> None:
        while (process_id := worker.pid) is None:
            time.sleep(0.02)
        if process_ids is not None:
            process_ids.append(process_id)
        time.sleep(then)
        os.kill(process_id, act)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@dataclass(frozen=True)
class _Revived:
    worker: WorkerProcess
    deaths: list[Outcome]
    process_ids: list[int]
    first: Outcome


@pytest.fixture(scope="module")
def revived(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Iterator[_Revived]:
    """A worker that died twice while it came up, and then did a task; shared, for each start loads torch anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPROFILEIMPORTTIME", "1")  # makes the worker log lines that begin with these words:
        config = replace(_config(tmp_path_factory.mktemp("revived")), token="import time")
        worker = WorkerProcess(config, "worker")
        try:
            deaths, process_ids = [], []
            for number in (signal.SIGSEGV, signal.SIGKILL):
                killer = _when_started(worker, number, 0.3, process_ids)  # while it imports: the task is waiting
                deaths.append(worker.run(_task(photos)))
                killer.join()
            yield _Revived(worker, deaths, process_ids, worker.run(_task(photos)))
        finally:
            worker.stop()


def test_death_tells_its_signal_and_the_next_task_gets_a_new_worker(revived: _Revived) -> None:
    assert [death.signal for death in revived.deaths if isinstance(death, Died)] == [signal.SIGSEGV, signal.SIGKILL]
    assert len({*revived.process_ids, revived.worker.pid}) == 3
    assert isinstance(revived.first, Done)


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
    revived: _Revived, photos: Path, tmp_path: Path
) -> None:
    task = _task(photos)
    changed = tmp_path / "changed"
    changed.mkdir()
    name = task.work.images[0].path
    (changed / name).write_bytes((photos / name).read_bytes() + b"x")
    outcome = revived.worker.run(Task(task.work.model_copy(update={"folder": changed})))
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.checksum_mismatch
    assert name in outcome.detail


class _OneWorker:
    """The least executor over a worker process."""

    def __init__(self, worker: WorkerProcess) -> None:
        self._worker = worker
        self._outcome: Outcome | None = None

    def start(self) -> None: ...

    def idle(self) -> list[int]:
        return [0]

    def submit(self, worker: int, task: Task, *, fresh: bool) -> None:
        self._outcome = self._worker.run(task, fresh=fresh)

    def up(self) -> set[int]:
        return {0}

    def starting(self) -> bool:
        return False

    def wait(self, timeout: float | None = None) -> tuple[int, Outcome]:
        assert self._outcome is not None
        return 0, self._outcome

    def close(self) -> None:
        self._worker.stop()


def test_a_bug_of_ours_is_shown_and_ends_the_run_uncommitted(revived: _Revived, tmp_path: Path) -> None:
    captioner = CaptionerConfig(repo_id="no/such")  # unpinned, which only a bug of the planning could bring about
    task = Task(CaptionChunk("chunk", (), captioner))
    executor = _OneWorker(revived.worker)
    scheduler = Scheduler([TaskGroup("captioner", "captioner", iter([task]), 1)], attempts=3)
    with pytest.raises(RuntimeError, match=r"Traceback(.|\n)*pinned before captioning"):
        drive(scheduler, executor, EventLog(tmp_path / "events.jsonl"), pytest.fail, pytest.fail)
    assert isinstance(executor.wait()[1], Bug), "it was taken for a death"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_worker_without_the_device_says_so_instead_of_failing_models(config: WorkerConfig, photos: Path) -> None:
    worker = WorkerProcess(replace(config, device="cuda"), "worker")
    try:
        outcome = worker.run(_task(photos))
    finally:
        worker.stop()
    assert isinstance(outcome, InputError)
    assert "execute.device = cuda" in str(outcome)


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder where not even root may write")
def test_a_spool_that_cannot_be_written_is_the_users_to_mend(config: WorkerConfig, photos: Path) -> None:
    outcome = WorkerProcess(replace(config, spool=Path("/sys/kernel/spool")), "worker").run(_task(photos))
    assert isinstance(outcome, InputError)
    assert "/sys/kernel/spool" in str(outcome)
    assert "run the same command again" in str(outcome)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_the_users_to_mend_and_other_errors_stay_ours(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=f"{tmp_path}.*No space left.*free space"),
        disk_refusals(tmp_path),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"x")
    with pytest.raises(FileNotFoundError), disk_refusals(tmp_path):
        (tmp_path / "nothing").read_bytes()


def test_the_log_of_a_task_comes_with_its_outcome_without_the_token(revived: _Revived) -> None:
    assert isinstance(revived.first, Done)
    for outcome in (revived.first, *revived.deaths):
        assert "<token>:" in outcome.log_tail
        assert "import time" not in outcome.log_tail
        assert len(outcome.log_tail) <= 2000


def test_models_that_all_units_share_are_not_blamed_on_a_unit(config: WorkerConfig, tmp_path: Path) -> None:
    commit = "0" * 40
    (tmp_path / "hub/models/some/repo").mkdir(parents=True)
    (tmp_path / "hub/models/some/repo/config.json").write_text("{}")
    with HubServer(tmp_path / "hub") as hub:
        worker = Worker(replace(config, endpoint=hub.endpoint))
        with pytest.raises(InputError, match=r"caption\.captioner: no/captioner: .*\(repo_not_found\)"):
            worker.run(Task(CaptionChunk("chunk", (), CaptionerConfig(repo_id="no/captioner", revision=commit))))
        with pytest.raises(InputError, match=r"sample\.checker: no/checker: .*\(repo_not_found\)"):
            worker._shared.checker(CheckerSpec(repo_id="no/checker", revision=commit), ComponentStore())


def test_the_inline_executor_leaves_torch_as_it_was(config: WorkerConfig, photos: Path, tmp_path: Path) -> None:
    def settings() -> tuple[object, ...]:
        backends = (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32)
        return (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), *backends)

    at_first = settings()
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(False)
    before, variables = settings(), dict(os.environ)
    executor = InlineExecutor(config, tmp_path / "deaths")
    try:
        executor.start()
        assert settings()[:2] == (1, True)
        executor.submit(0, _task(photos), fresh=True)
        assert isinstance(executor.wait()[1], Done)
        executor.close()
        executor.close()
        assert settings() == before
        assert {key: os.environ.get(key) for key in variables} == variables
        assert not (tmp_path / "deaths").exists()
    finally:
        torch.set_num_threads(int(str(at_first[0])))
        torch.use_deterministic_algorithms(bool(at_first[1]))
