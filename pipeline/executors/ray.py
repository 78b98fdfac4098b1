"""The executor of long-lived Ray actors, each of which supervises one worker process.

The actor itself loads no model. It tells how its worker died, which Ray does not, and it ends a worker that hangs.
Images never cross Ray's object store: workers publish shards themselves and only receipts come back.
"""

import logging
import os
import time
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from manifests.errors import InputError
from pipeline.config import ExecuteConfig
from pipeline.executors.ray_capacity import check_capacity
from pipeline.executors.ray_probe import probe
from pipeline.executors.ray_restarts import Restarts
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
    """Workers 0..N-1 as actors; a dead actor is replaced by a new one with the same number.

    Ray puts each answer into a queue when it comes, so the cost of an event does not depend on the number of workers;
    `ray.wait` looks at all of them each time.
    """

    def __init__(self, config: WorkerConfig, execute: ExecuteConfig) -> None:
        self._config = config
        self._execute = execute
        self._actors: dict[int, Any] = {}
        self._idle: dict[int, None] = {}
        self._starting: dict[Future[Any], int] = {}
        self._running: dict[Future[Any], tuple[int, Task]] = {}
        self._answers: SimpleQueue[Future[Any]] = SimpleQueue()
        self._starts = 0
        self._failed_starts = 0
        self._restarts = Restarts()
        self._came_up = False
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
        return list(self._idle)

    def up(self) -> set[int]:
        return self._actors.keys() - self._starting.values()

    def submit(self, worker: int, task: Task, *, fresh: bool) -> None:
        del self._idle[worker]
        self._running[self._ask(self._actors[worker].run.remote(task, fresh))] = (worker, task)

    def starting(self) -> bool:
        return bool(self._starting) or self._restarts.waiting

    def wait(self, timeout: float | None = None) -> tuple[int, Outcome] | None:
        answer = self._next_answer(timeout)
        if answer is None:
            return None
        if answer in self._starting:
            self._take_start(answer)
            return None
        worker, task = self._running.pop(answer)
        try:
            outcome: Outcome = answer.result()
        except RayError as error:  # actor or node is gone, has no place any more, or met what it does not know
            self._replace(worker)
            return worker, Died(task, 0, _cause(error) if isinstance(error, RayTaskError) else _first_line(error))
        self._idle[worker] = None
        return worker, outcome

    def close(self) -> None:
        for actor in self._actors.values():
            ray.kill(actor)
        self._actors.clear()
        self._idle.clear()
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
        self._starting[self._ask(actor.ready.remote())] = worker  # until it answers, the worker may have no place yet

    def _ask(self, reference: Any) -> Future[Any]:
        """Return the reference as a future that comes into the queue when it is answered."""
        future: Future[Any] = reference.future()
        future.add_done_callback(self._answers.put)
        return future

    def _next_answer(self, timeout: float | None) -> Future[Any] | None:
        started, said = time.monotonic(), False
        while True:
            for worker in self._restarts.take_due():
                self._create(worker)
            try:
                answer = self._answers.get(timeout=1.0)  # a short wait keeps Ctrl-C answered
            except Empty:
                if timeout is not None and time.monotonic() - started >= timeout:
                    return None
                if self._starting and not self._running and not said and time.monotonic() - started > PATIENCE:
                    free = ray.available_resources()
                    say(
                        "workers: waiting for the cluster, which has no room yet: "
                        f"{free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs are free"
                    )
                    said = True
                continue
            if answer in self._running or answer in self._starting:  # else it is of an actor that we gave up
                return answer

    def _replace(self, worker: int) -> None:
        self._remove(worker)
        self._create(worker)

    def _remove(self, worker: int) -> None:
        ray.kill(self._actors.pop(worker), no_restart=True)  # we may only have lost sight of it

    def _take_start(self, answer: Future[Any]) -> None:
        """Take a worker's first answer; from then on it is idle.

        Raises:
            InputError: it can do nothing where it is, and no other is up or coming up; or none ever came up.
        """
        worker = self._starting.pop(answer)
        try:
            refusal: InputError | None = answer.result()
        except RayError as error:
            self._failed_starts += 1
            if not self._came_up and self._failed_starts >= FAILED_STARTS:
                raise InputError(
                    f"execute.executor: Ray workers die at their start; is this version of commforge installed on "
                    f"every node? {_cause(error)}"
                ) from error
            if not self._came_up:
                self._replace(worker)
                return
            self._remove(worker)
            pause = self._restarts.failed(worker)
            say(f"workers: worker {worker} died at its start; the next try is in {pause:g} s: {_cause(error)}")
            return
        if refusal is not None:
            self._remove(worker)
            if not self._actors:
                raise refusal
            pause = self._restarts.failed(worker)
            say(f"workers: worker {worker} gets no work; the next try is in {pause:g} s: {refusal}")
            return
        self._came_up = True
        self._restarts.came_up(worker)
        self._idle[worker] = None


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _cause(error: BaseException) -> str:
    """The last line of Ray's words on a death: the exception's own, where there is one."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
