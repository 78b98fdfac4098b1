"""One worker process as its parent sees it: start it, give it a task, learn how it ended.

They speak over a socket. The parent sends a WorkerConfig. The child says READY when it can take a task; then the parent
sends one Task at a time, and the child says FETCHED when the files of a task are here, and answers it with an Outcome.
The parent waits for no more than it may: a child can be stopped while it reads a task, or while it writes an answer.
"""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from pathlib import Path

import psutil

from crawlers.hub.hub_errors import redact
from pipeline.disk_errors import disk_refusals
from pipeline.tasks import Failed, Outcome, Task
from pipeline.timed_channel import TimedChannel
from pipeline.worker_config import WorkerConfig
from shards.statuses import Reason

LOG_TAIL_BYTES = 2000
DEATH_SECONDS = 30.0
"""How long a child that has closed its socket, or was killed, may take to die."""
START_SECONDS = 600.0
"""How long a child may import; minutes on a network file system that nobody has read from yet."""
DOWNLOADS = 3
"""Downloads that one task may need: a generator, its base and the checker."""


class Notice(Enum):
    """What a child says before it answers."""

    READY = "ready"
    FETCHED = "fetched"


class ChildProcess:
    """A child that runs from the moment this is made; its threads are pinned before its first import.

    Args:
        log: file of its standard output and error; removed with it.
        standby: it will be needed later, so it shall not take the processor from those that are needed now.

    Raises:
        InputError: the log cannot be written.
    """

    def __init__(self, config: WorkerConfig, log: Path, *, standby: bool = False) -> None:
        self._config = config
        self._log = log
        self._ready = False
        self._log_start = 0
        self.tasks_run = 0
        self.hangs = False
        self._given_up = False
        with disk_refusals(log.parent):
            log.parent.mkdir(parents=True, exist_ok=True)
            log.touch()
        threads = str(config.cpu_threads)
        environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads)
        command = [sys.executable, "-m", "pipeline.worker_process"]
        here, there = socket.socketpair()
        with there, log.open("ab") as output:
            self._process = subprocess.Popen(
                [*command, str(there.fileno()), str(os.getpid()), *(["--standby"] if standby else [])],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
            )
        self._channel = TimedChannel(here)
        with suppress(ConnectionError):  # it died at once: its first task tells how
            self._channel.send(config, START_SECONDS)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    @property
    def ready(self) -> bool:
        """Whether it has imported everything and waits for its first task."""
        return self._ready or self._channel.waiting()

    def run(self, task: Task, on_fetched: Callable[[], None]) -> Outcome:
        """Run one task. A child that takes longer than it may is marked with `hangs` and left as it is.

        The limits: START_SECONDS to its first task, `DOWNLOADS` times the limit of a download until it has taken the
        task and the files are here, and the limit of a unit from then on until its answer is here.

        Raises:
            EOFError, ConnectionError: it died.
        """
        self._log_start = self._log_size() if self.tasks_run else 0
        self.tasks_run += 1
        if not self._ready:
            self._await_ready()
        limit, reason, what = DOWNLOADS * self._config.download_timeout, Reason.download_timeout, "no files"
        try:
            answer = self._ask(task, limit)
            if answer is Notice.FETCHED:
                on_fetched()
                limit, reason, what = self._config.unit_timeout, Reason.unit_timeout, "no result"
                answer = self._channel.receive(limit)
        except TimeoutError:
            self.hangs = True
            return Failed(task, reason, f"{what} within {limit:g} s", limit, socket.gethostname())
        if isinstance(answer, Notice):
            raise RuntimeError(f"a worker said {answer} where an outcome was due")
        return answer

    def resident_bytes(self) -> int:
        """Main memory that it holds (resident set: 0.9 GiB before the first model); 0 when it has ended."""
        try:
            return int(psutil.Process(self.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def death_signal(self) -> int:
        """Return the signal that it died of, 0 when that is unknown or it had to be ended."""
        try:
            return max(0, -self._process.wait(DEATH_SECONDS))
        except subprocess.TimeoutExpired:
            self.end()
            return 0

    def end(self) -> None:
        """End it now, stopped or not; its log stays until `forget`.

        One that the kernel does not let go, in a call of a driver or of a network file system that does not return, is
        waited for once, DEATH_SECONDS long, and then left `alive`: it ends when that call does.
        """
        self._channel.close()
        if not self.alive or self._given_up:
            return
        self._process.kill()
        try:
            self._process.wait(DEATH_SECONDS)
        except subprocess.TimeoutExpired:
            self._given_up = True

    def forget(self) -> None:
        """End it, and remove its log."""
        self.end()
        with suppress(OSError):  # of no use to anybody; whoever next sweeps the spool removes it
            self._log.unlink()

    def log_tail(self) -> str:
        """Return the last lines that it logged since it got its last task, without secrets.

        Nothing when the log is gone or cannot be read: no outcome may be lost for it.
        """
        tail = max(self._log_start, self._log_size() - LOG_TAIL_BYTES)
        try:
            with self._log.open("rb") as log:
                log.seek(tail)
                text = log.read().decode(errors="replace")
        except OSError:
            return ""
        if tail > self._log_start:  # cut somewhere, perhaps within a secret, which would then not be known for one
            text = re.sub(r"\A[^\r\n]*[\r\n]?", "", text)
        return redact(text, self._config.token)

    def _log_size(self) -> int:
        """Return its bytes; 0 when it is gone, as what lies in a folder for temporary files may be after some days."""
        try:
            return self._log.stat().st_size
        except OSError:
            return 0

    def _await_ready(self) -> None:
        try:
            self._channel.receive(START_SECONDS)
        except TimeoutError as error:
            raise EOFError(f"not ready within {START_SECONDS:g} s") from error
        self._ready = True

    def _ask(self, task: Task, seconds: float) -> Outcome | Notice:
        """Send the task and return what is said to it first, both within `seconds`."""
        deadline = time.monotonic() + seconds
        self._channel.send(task, seconds)
        answer: Outcome | Notice = self._channel.receive(deadline - time.monotonic())
        return answer
