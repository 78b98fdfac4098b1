"""A worker in a process of its own, so that its death is an event with a signal number and a hang can be ended.

The parent speaks to it over a socket: a WorkerConfig, then one Task at a time; the child answers each with an
Outcome. The child ends when the socket closes, and within a second of its parent's death, so that nothing is
sampled for nobody.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection

from manifests.errors import InputError
from pipeline.spool import owned_name
from pipeline.tasks import Died, Failed, Outcome, Task
from pipeline.worker_config import WorkerConfig
from shards.statuses import Reason

LOG_TAIL_BYTES = 2000


class WorkerProcess:
    """The parent's handle. Starting is lazy: the first `run` pays for it."""

    def __init__(self, config: WorkerConfig, name: str) -> None:
        self._config = config
        self._log = config.spool / f"{owned_name()}.{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._tasks_run = 0

    @property
    def pid(self) -> int | None:
        """The child's process id while it lives."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start the child; its threads are pinned by the environment before its first import."""
        here, there = socket.socketpair()
        self._config.spool.mkdir(parents=True, exist_ok=True)
        threads = str(self._config.cpu_threads)
        environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads)
        with there, self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.worker_process", str(there.fileno())],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )
        self._connection = Connection(here.detach())
        self._connection.send(self._config)
        self._tasks_run = 0

    def run(self, task: Task, *, fresh: bool = False) -> Outcome:
        """Run one task and return its outcome; a child that hangs is ended, one that died is replaced next time."""
        if self._process is None or self._process.poll() is not None or (fresh and self._tasks_run):
            self.stop()
            self.start()
        assert self._connection is not None
        is_fresh = self._tasks_run == 0
        self._tasks_run += 1
        log_start = self._log.stat().st_size
        try:
            self._connection.send(task)
            if not self._connection.poll(self._config.unit_timeout):
                self.stop()
                detail = f"no result within {self._config.unit_timeout:g} s"
                return Failed(task, Reason.unit_timeout, detail, self._config.unit_timeout, socket.gethostname())
            outcome: Outcome = self._connection.recv()
        except (EOFError, ConnectionError):
            return Died(task, self._death_signal(), is_fresh, self._log_since(log_start))
        return outcome

    def stop(self) -> None:
        """End the child now."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()
        self._process = self._connection = None

    def _death_signal(self) -> int:
        assert self._process is not None
        return max(0, -self._process.wait())

    def _log_since(self, start: int) -> str:
        with self._log.open("rb") as log:
            log.seek(max(start, self._log.stat().st_size - LOG_TAIL_BYTES))
            return log.read().decode(errors="replace")


def main(descriptor: int) -> None:
    """Serve tasks in the child until the parent closes the socket."""
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides what to end.
    connection = Connection(descriptor)
    config: WorkerConfig = connection.recv()

    from pipeline.worker import Worker  # loads torch, with the threads already pinned

    worker = Worker(config)
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        try:
            outcome: Outcome = worker.run(task)
        except InputError as error:
            outcome = error
        connection.send(outcome)


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
