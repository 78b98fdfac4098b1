"""The executor of long-lived Ray actors, each of which supervises one worker process.

The actor itself loads no model. It tells how its worker died, which Ray does not, and it ends a worker that hangs.
Images never cross Ray's object store: workers publish shards themselves and only receipts come back.
"""

import logging
import os
import time
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    WorkerCrashedError,
)

from manifests.errors import InputError
from pipeline.config import ExecuteConfig
from pipeline.executors.ray_capacity import check_capacity
from pipeline.executors.ray_probe import probe
from pipeline.progress import say
from pipeline.tasks import Died, Outcome, Task
from pipeline.worker_config import WorkerConfig
from pipeline.worker_process import WorkerProcess

OBJECT_STORE_BYTES = 200 * 2**20
"""Only receipts cross the object store."""
FAILED_STARTS = 3
"""Workers in a row that died before their first answer: then the cluster cannot run them at all."""
PATIENCE = 15.0
"""Seconds without any worker after which we say what we wait for."""
LOST = (
    RayActorError,
    OutOfMemoryError,
    NodeDiedError,
    LocalRayletDiedError,
    ObjectLostError,
    WorkerCrashedError,
)
"""What Ray answers when the actor that held a task, or its node, is gone."""


class RayWorker:
    """A supervisor on a node of the cluster."""

    def __init__(self, config: WorkerConfig, name: str) -> None:
        self._worker = WorkerProcess(config, name)

    def ready(self) -> InputError | None:
        """Start the worker process; the answer tells that this actor is placed, or why it can do nothing here."""
        try:
            with suppress(ConnectionError):  # it died at once: the first task starts another and tells how that ended
                self._worker.start()
        except InputError as refusal:
            return refusal
        return None

    def run(self, task: Task, fresh: bool) -> Outcome:
        return self._worker.run(task, fresh=fresh)

    def process_ids(self) -> tuple[int, int | None]:
        """Return the supervisor's and the worker's process id."""
        return os.getpid(), self._worker.pid


class RayExecutor:
    """Workers 0..N-1 as actors; a dead actor is replaced by a new one with the same number."""

    def __init__(self, config: WorkerConfig, execute: ExecuteConfig) -> None:
        self._config = config
        self._execute = execute
        self._actors: dict[int, Any] = {}
        self._starting: dict[Any, int] = {}
        self._running: dict[Any, tuple[int, Task]] = {}
        self._starts = 0
        self._failed_starts = 0
        self._owns_cluster = False

    def start(self) -> None:
        """Connect to the cluster, or start one on this machine, and create the workers.

        Raises:
            InputError: no cluster answers at the address, or none of its nodes can ever hold a worker.
        """
        if not ray.is_initialized():
            self._connect()
        try:
            fitting = check_capacity(ray.nodes(), self._execute, self._config.cpu_threads)
        except InputError:
            self.close()
            raise
        if fitting < self._execute.workers:
            say(f"workers: the cluster has room for {fitting} of {self._execute.workers}; the others wait for theirs")
        for worker in range(self._execute.workers):
            self._create(worker)

    def idle(self) -> list[int]:
        if self._starting:
            answered, _ = ray.wait(list(self._starting), num_returns=len(self._starting), timeout=0)
            for reference in answered:
                self._take_start(reference)
        busy = {worker for worker, _ in self._running.values()} | set(self._starting.values())
        return [worker for worker in self._actors if worker not in busy]

    def submit(self, worker: int, task: Task, *, fresh: bool) -> None:
        reference = self._actors[worker].run.remote(task, fresh)
        self._running[reference] = (worker, task)

    def wait(self) -> tuple[int, Outcome] | None:
        answered: list[Any] = []
        started, said = time.monotonic(), False
        while not answered:  # a short wait keeps Ctrl-C answered
            answered, _ = ray.wait([*self._running, *self._starting], num_returns=1, timeout=1.0)
            if not answered and not self._running and not said and time.monotonic() - started > PATIENCE:
                free = ray.available_resources()
                say(
                    "workers: waiting for the cluster, which has no room yet: "
                    f"{free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs are free"
                )
                said = True
        if answered[0] in self._starting:
            self._take_start(answered[0])
            return None
        worker, task = self._running.pop(answered[0])
        try:
            outcome: Outcome = ray.get(answered[0])
        except LOST as error:
            self._replace(worker)
            return worker, Died(task, 0, _first_line(error))
        return worker, outcome

    def close(self) -> None:
        for actor in self._actors.values():
            ray.kill(actor)
        self._actors.clear()
        self._starting.clear()
        self._running.clear()
        if self._owns_cluster:
            ray.shutdown()
            self._owns_cluster = False

    def _connect(self) -> None:
        # Its notices would break the progress bar; errors still show.
        logging.getLogger("ray").setLevel(logging.ERROR)
        address = self._execute.ray_address
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address is None:
            options |= {
                "address": "local",
                "num_cpus": max(self._execute.workers * self._config.cpu_threads, os.cpu_count() or 1),
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE_BYTES,
            }
        else:
            probe(address)
            options["address"] = address
        try:
            ray.init(**options)
        except (ConnectionError, ValueError, RuntimeError, RayError) as error:
            if address is None:
                raise InputError(
                    f"execute.executor: Ray does not start on this machine: {_first_line(error)}"
                ) from error
            raise InputError(
                f"execute.ray_address: no Ray cluster answers at {address!r}: {_first_line(error)}"
            ) from error
        self._owns_cluster = True

    def _create(self, worker: int) -> None:
        self._starts += 1
        options = {"num_cpus": self._config.cpu_threads, "num_gpus": self._execute.gpus_per_worker}
        actor_class = ray.remote(max_restarts=0, max_task_retries=0)(RayWorker)
        actor = actor_class.options(**options).remote(self._config, f"worker-{worker}-{self._starts}")
        self._actors[worker] = actor
        self._starting[actor.ready.remote()] = worker  # until it answers, the worker may have no place yet

    def _replace(self, worker: int) -> None:
        ray.kill(self._actors[worker], no_restart=True)  # we may only have lost sight of it
        self._create(worker)

    def _take_start(self, reference: Any) -> None:
        """Take a worker's first answer; from then on it is idle.

        Raises:
            InputError: it can do nothing where it is, or no worker comes up.
        """
        worker = self._starting.pop(reference)
        try:
            refusal: InputError | None = ray.get(reference)
        except LOST as error:
            self._failed_starts += 1
            if self._failed_starts >= FAILED_STARTS:
                raise InputError(
                    f"execute.executor: Ray workers die at their start; is this version of commforge installed on "
                    f"every node? {_cause(error)}"
                ) from error
            self._replace(worker)
            return
        if refusal is not None:
            raise refusal
        self._failed_starts = 0


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _cause(error: BaseException) -> str:
    """The last line of Ray's words on a death: the exception's own, where there is one."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
