"""A worker in a process of its own, so that its death is an event with a signal number and a hang can be ended.

The parent speaks to it over a socket: a WorkerConfig, then one Task at a time; the child answers each with an
Outcome. The child ends when the socket closes, and within a second of its parent's death, so that nothing is
sampled for nobody.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection

from crawlers.hub_errors import redact
from manifests.errors import InputError
from pipeline.disk_errors import disk_refusals
from pipeline.spool import owned_name
from pipeline.tasks import Bug, Died, Done, Failed, Outcome, Task
from pipeline.worker_config import WorkerConfig
from shards.statuses import Reason

LOG_TAIL_BYTES = 2000
DEATH_SECONDS = 30.0
"""How long a child that has closed its socket may take to die."""


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
        """Start the child; its threads are pinned by the environment before its first import.

        Raises:
            InputError: the spool cannot be written.
            ConnectionError: the child died at once.
        """
        with disk_refusals(self._config.spool):
            self._config.spool.mkdir(parents=True, exist_ok=True)
            self._log.touch()
        threads = str(self._config.cpu_threads)
        environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads)
        here, there = socket.socketpair()
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
        log_start = self._log.stat().st_size if self._log.exists() else 0
        try:
            if self._process is None or self._process.poll() is not None or (fresh and self._tasks_run):
                self.stop()
                self.start()
            outcome = self._exchange(task)
        except InputError as refusal:
            return refusal
        except (EOFError, ConnectionError):
            return Died(task, self._death_signal(), self._log_since(log_start))
        if isinstance(outcome, Done | Failed):
            return replace(outcome, log_tail=self._log_since(log_start))
        return outcome

    def _exchange(self, task: Task) -> Outcome:
        """Send a task and return the answer. Raises EOFError or ConnectionError when the child dies."""
        assert self._connection is not None
        self._tasks_run += 1
        self._connection.send(task)
        if not self._connection.poll(self._config.unit_timeout):
            self.stop()
            detail = f"no result within {self._config.unit_timeout:g} s"
            return Failed(task, Reason.unit_timeout, detail, self._config.unit_timeout, socket.gethostname())
        try:
            outcome: Outcome = self._connection.recv()
        except OSError as error:  # it died in the middle of its answer
            raise EOFError from error
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
        """Return the signal that the child died of, 0 when it is unknown or the child had to be ended."""
        assert self._process is not None
        try:
            return max(0, -self._process.wait(DEATH_SECONDS))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return 0

    def _log_since(self, start: int) -> str:
        """Return the last lines logged after byte `start`, without secrets."""
        if not self._log.exists():
            return ""
        tail = max(start, self._log.stat().st_size - LOG_TAIL_BYTES)
        with self._log.open("rb") as log:
            log.seek(tail)
            text = log.read().decode(errors="replace")
        if tail > start:  # cut somewhere, perhaps within a secret, which would then not be known for one
            text = re.sub(r"\A[^\r\n]*[\r\n]?", "", text)
        return redact(text, self._config.token)


def main(descriptor: int) -> None:
    """Serve tasks in the child until the parent closes the socket."""
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides what to end.
    connection = Connection(descriptor)
    config: WorkerConfig = connection.recv()

    try:
        answer = _worker(config)
    except InputError as refusal:
        answer = _always(refusal)
    except Exception:  # noqa: BLE001 - as below
        answer = _always(_bug(config))
    while True:
        try:
            task = connection.recv()
        except (EOFError, ConnectionError):
            return
        try:
            outcome = answer(task)
        except InputError as refusal:
            outcome = refusal
        except Exception:  # noqa: BLE001 - the outermost frame of this process: the driver shall show it, not a death
            outcome = _bug(config)
        sys.stdout.flush()
        connection.send(outcome)


def _worker(config: WorkerConfig) -> Callable[[Task], Outcome]:
    from pipeline.worker import Worker  # loads torch, with the threads already pinned

    return Worker(config).run


def _always(outcome: Outcome) -> Callable[[Task], Outcome]:
    """Answer every task so: the worker could not be made."""
    return lambda task: outcome


def _bug(config: WorkerConfig) -> Bug:
    return Bug(redact(traceback.format_exc(), config.token))


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
