"""The executor of long-lived Ray actors, each of which supervises one worker process.

The actor itself loads no model. It tells how its worker died, which Ray does not, and it ends a worker that hangs.
Images never cross Ray's object store: workers publish shards themselves and only receipts come back.
"""

import logging
import os
from typing import Any

import ray
from ray.exceptions import RayActorError

from manifests.errors import InputError
from pipeline.config import ExecuteConfig
from pipeline.tasks import Died, Outcome, Task
from pipeline.worker_config import WorkerConfig
from pipeline.worker_process import WorkerProcess

OBJECT_STORE_BYTES = 200 * 2**20
"""Only receipts cross the object store."""


class RayWorker:
    """A supervisor on a node of the cluster."""

    def __init__(self, config: WorkerConfig, name: str) -> None:
        self._worker = WorkerProcess(config, name)
        self._worker.start()

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
        self._running: dict[Any, tuple[int, Task]] = {}
        self._fresh: set[int] = set()
        self._starts = 0
        self._owns_cluster = False

    def start(self) -> None:
        """Connect to the cluster, or start one on this machine, and create the workers.

        Raises:
            InputError: the address of the cluster does not answer.
        """
        if not ray.is_initialized():
            self._connect()
        for worker in range(self._execute.workers):
            self._create(worker)

    def idle(self) -> list[int]:
        busy = {worker for worker, _ in self._running.values()}
        return [worker for worker in self._actors if worker not in busy]

    def submit(self, worker: int, task: Task, *, fresh: bool) -> None:
        reference = self._actors[worker].run.remote(task, fresh)
        self._running[reference] = (worker, task)

    def wait(self) -> tuple[int, Outcome]:
        ready: list[Any] = []
        while not ready:  # a short wait keeps Ctrl-C answered
            ready, _ = ray.wait(list(self._running), num_returns=1, timeout=1.0)
        worker, task = self._running.pop(ready[0])
        was_fresh = worker in self._fresh
        self._fresh.discard(worker)
        try:
            outcome: Outcome = ray.get(ready[0])
        except RayActorError as error:
            self._create(worker)
            return worker, Died(task, 0, was_fresh, str(error).splitlines()[0])
        return worker, outcome

    def close(self) -> None:
        for actor in self._actors.values():
            ray.kill(actor)
        self._actors.clear()
        self._running.clear()
        if self._owns_cluster:
            ray.shutdown()

    def _connect(self) -> None:
        # Its notices would break the progress bar; errors still show.
        logging.getLogger("ray").setLevel(logging.ERROR)
        address = self._execute.ray_address
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address is None:
            options |= {
                "address": "local",
                "num_cpus": max(self._execute.workers, os.cpu_count() or 1),
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE_BYTES,
            }
        else:
            options["address"] = address
        try:
            ray.init(**options)
        except ConnectionError as error:
            raise InputError(f"execute.ray_address: no Ray cluster answers at {address!r}: {error}") from error
        self._owns_cluster = True

    def _create(self, worker: int) -> None:
        self._starts += 1
        options = {"num_cpus": 1, "num_gpus": self._execute.gpus_per_worker}
        actor = ray.remote(max_restarts=0, max_task_retries=0)(RayWorker)
        self._actors[worker] = actor.options(**options).remote(self._config, f"worker-{worker}-{self._starts}")
        self._fresh.add(worker)
