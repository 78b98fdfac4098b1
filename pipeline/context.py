"""An open run: its config with everything pinned, its dataset under the run lock, workers when a stage needs them."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from manifests.errors import InputError, system_words
from pipeline.config import RunConfig
from pipeline.deaths import DeathLog
from pipeline.device_check import check_device
from pipeline.disk_errors import disk_refusals, is_full
from pipeline.events import EventLog
from pipeline.executors import make_executor
from pipeline.executors.base import Executor
from pipeline.hub_token import hub_token
from pipeline.progress import say
from pipeline.resolve import pin, write_config
from pipeline.run_folder import RunFolder
from pipeline.worker_config import WorkerConfig
from shards import layout, storage
from shards.dataset import Dataset, IdentityChanged
from shards.run_lock import RunLock

if TYPE_CHECKING:
    from pipeline.metrics import Metrics


@dataclass
class RunContext:
    """What every stage works with."""

    config: RunConfig
    folder: RunFolder
    events: EventLog
    dataset: Dataset
    deaths: DeathLog
    metrics: "Metrics | None" = None
    _executor: Executor | None = None

    @property
    def spool(self) -> Path:
        """Where unpublished shards and worker logs lie on this machine."""
        return self.config.execute.spool or Path(tempfile.gettempdir()) / f"commforge-{os.getuid()}"

    def executor(self) -> Executor:
        """Return the workers, brought up at the first call.

        Raises:
            InputError: this machine has no such device, or no cluster answers at the address.
        """
        if self._executor is None:
            execute = self.config.execute
            if execute.executor == "inline" or execute.ray_address is None:  # a cluster's devices are not this one's
                check_device("execute.device", execute.device)
            worker_config = WorkerConfig(
                dataset=self.folder.dataset.resolve(),
                spool=self.spool,
                endpoint=self.config.hub.endpoint,
                token=hub_token(),
                cache=self.config.hub.cache,
                download_timeout=self.config.hub.download_timeout,
                unit_timeout=execute.unit_timeout,
                cpu_threads=self.config.sample.cpu_threads,
                device=execute.device,
                disk_budget=self.config.hub.disk_budget,
                prefetch=self.config.hub.prefetch,
                gpus_per_worker=execute.gpus_per_worker,
                offload=execute.offload,
                compile=self.config.sample.compile,
                spares=execute.spares,
                tasks_per_worker=execute.tasks_per_worker,
                worker_memory=execute.worker_memory,
            )
            where = "in this process" if execute.executor == "inline" else f"on {execute.workers} Ray workers"
            say(f"workers: {where}")
            executor = make_executor(execute, worker_config, self.folder.deaths)
            executor.start()
            self._executor = executor
        return self._executor

    def release_workers(self) -> None:
        """End the workers; a later stage may ask for them again."""
        if self._executor is not None:
            self._executor.close()
            self._executor = None


@contextmanager
def open_run(config: RunConfig, folder: RunFolder | None = None) -> Iterator[RunContext]:
    """Open the run for writing: make the folder and dataset or check that it is the same one, and take the lock.

    Raises:
        InputError: the folder cannot be written, another run holds it, or an identity key has changed; or a disk is
            full by now, whatever the block was writing.
    """
    folder = folder or RunFolder.at(config.output)
    storage.local_root(folder.dataset)
    try:
        folder.root.mkdir(parents=True, exist_ok=True)
        folder.dataset.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output: cannot write to {folder.root}: {system_words(error)}") from error
    with disk_refusals(folder.root, folder.dataset), RunLock(folder.dataset):
        config = pin(config, folder)
        dataset = _open_dataset(config, folder)
        commits = len(dataset.log.names())
        before = folder.config.read_bytes() if folder.config.is_file() else None
        write_config(config, folder.config)
        context = RunContext(config, folder, EventLog(folder.events), dataset, DeathLog(folder.deaths))
        try:
            with _metrics(context):
                yield context
        except InputError:
            # A config that was refused before anything came of it shall not stay as the run's.
            if before is not None and len(dataset.log.names()) == commits:
                _put_back(folder.config, before)
            raise
        finally:
            context.release_workers()
            context.events.close()


def _put_back(path: Path, before: bytes) -> None:
    """Give a file its former bytes; a disk that is too full for them hides no error that is on its way."""
    if path.read_bytes() == before:
        return
    try:
        storage.replace(path, before)
    except OSError as error:
        if not is_full(error):
            raise
        say(f"{path}: the disk is full, so it keeps what was refused")


@contextmanager
def _metrics(context: RunContext) -> Iterator[None]:
    port = context.config.execute.metrics_port
    if port is None:
        yield
        return
    from pipeline.metrics import Metrics, served

    metrics = Metrics()
    with served(metrics, port):
        context.metrics = metrics
        yield


def _open_dataset(config: RunConfig, folder: RunFolder) -> Dataset:
    """Return the run's dataset: checked to be the same one, or made."""
    manifest = folder.dataset / layout.MANIFEST
    if manifest.exists():
        dataset = Dataset.open(folder.dataset)
        try:
            dataset.check_identity(config.identity(), RunConfig(name=config.name, output=config.output).identity())
        except IdentityChanged:
            if dataset.log.names():
                raise
            manifest.unlink()  # nothing was made with the old settings, so they bind nobody
        else:
            return dataset
    return Dataset.create(folder.dataset, config.name, config.identity(), config.licence_notes)
