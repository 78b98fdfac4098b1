"""A worker in a process of its own, so that its death is an event with a signal number and a hang can be ended.

The parent keeps a child for its tasks and replaces it when it died, hangs, has done enough, or holds too much memory.
With `spares` it keeps others ready, which have imported everything and hold nothing else: no model, nothing on a GPU,
0.5 GiB of main memory each beside the libraries' files, which all share. A spare takes over at once, where a new child
would import for several seconds.

The child ends when the socket closes, and within a second of its parent's death, so that nothing is sampled for nobody.
"""

import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

from crawlers.hub.hub_errors import redact
from manifests.errors import InputError
from pipeline.child_process import ChildProcess, Notice
from pipeline.spool import owned_name
from pipeline.tasks import Bug, Died, Done, Failed, Outcome, Task
from pipeline.timed_channel import TimedChannel
from pipeline.worker_config import WorkerConfig
from shards.statuses import Reason

if TYPE_CHECKING:
    from pipeline.worker import Worker

STANDBY_NICENESS = 10
NEEDED = ("pipeline.worker", "pandas", "PIL.PngImagePlugin")
"""What a worker imports, also what libraries would import at first use only: pyarrow asks for pandas."""


class WorkerProcess:
    """The parent's handle. Starting is lazy: the first `run` pays for it."""

    def __init__(self, config: WorkerConfig, name: str) -> None:
        self._config = config
        self._name = name
        self._child: ChildProcess | None = None
        self._spares: deque[ChildProcess] = deque()
        self._undead: list[ChildProcess] = []
        self._started = 0
        self._group: str | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id while it lives."""
        return self._child.pid if self._child is not None and self._child.alive else None

    @property
    def spare_pids(self) -> list[int]:
        """The process ids of the spares that live."""
        return [spare.pid for spare in self._spares if spare.alive]

    @property
    def ready_spares(self) -> int:
        """How many spares could take over at once."""
        return sum(spare.alive and spare.ready for spare in self._spares)

    def start(self) -> None:
        """Start the child.

        Raises:
            InputError: the spool cannot be written, or this machine starts no process.
        """
        with _machine_refusals():
            self._child = self._new(standby=False)

    def run(self, task: Task, *, fresh: bool = False) -> Outcome:
        """Run one task and return its outcome; `fresh` asks for a child that has run nothing yet.

        An InputError is the outcome, too, when this machine starts no process, or a child that was killed is still
        there: it may hold the GPU or a file system.
        """
        try:
            with _machine_refusals():
                child = self._child_for(task, fresh)
                outcome = self._outcome_of(child, task)
        except InputError as refusal:
            return refusal
        if isinstance(outcome, Died):
            return outcome
        self._refill()
        self._group = task.group
        if isinstance(outcome, Done | Failed):
            outcome = replace(outcome, log_tail=child.log_tail())
        # In what state a bug or a lost device leaves a process nobody knows.
        broken = isinstance(outcome, Bug) or (isinstance(outcome, Failed) and outcome.reason is Reason.device_lost)
        if child.hangs or broken:
            self._drop()
        return outcome

    def stop(self) -> None:
        """End the child and the spares now."""
        self._drop()
        while self._spares:
            self._end(self._spares.popleft())

    def _outcome_of(self, child: ChildProcess, task: Task) -> Outcome:
        try:
            return child.run(task, self._refill)  # not before: a spare shall not slow the start of this one
        except (EOFError, ConnectionError):
            death = Died(task, child.death_signal(), child.log_tail())
            self._drop()
            return death
        except BaseException:
            self._drop()  # its answer may be on the way, and would be taken for the next task's
            raise

    def _child_for(self, task: Task, fresh: bool) -> ChildProcess:
        child = self._child
        if child is None or not child.alive or (fresh and child.tasks_run) or self._is_worn(child, task):
            self._drop()
            self._refuse_beside_undead()
            child = self._child = self._spare() or self._new(standby=False)
        return child

    def _is_worn(self, child: ChildProcess, task: Task) -> bool:
        """Tell whether the child shall be replaced before this task: within a generator only for its memory."""
        config = self._config
        if config.worker_memory is not None and child.tasks_run and child.resident_bytes() > config.worker_memory:
            return True
        enough = config.tasks_per_worker is not None and child.tasks_run >= config.tasks_per_worker
        return enough and task.group != self._group

    def _spare(self) -> ChildProcess | None:
        while self._spares:
            spare = self._spares.popleft()
            if spare.alive:
                return spare
            self._end(spare)
        return None

    def _refill(self) -> None:
        """Start the spares that are missing. No task fails because one cannot be had: the next one asks again."""
        with suppress(InputError, OSError):
            while len(self._spares) < self._config.spares:
                self._spares.append(self._new(standby=True))

    def _refuse_beside_undead(self) -> None:
        self._undead = [child for child in self._undead if child.alive]
        if self._undead:
            numbers = ", ".join(str(child.pid) for child in self._undead)
            raise InputError(
                f"{socket.gethostname()}: worker process {numbers} does not end, although it was killed: a GPU or a "
                "file system of this machine does not answer; mend that, or restart the machine"
            )

    def _new(self, *, standby: bool) -> ChildProcess:
        self._started += 1
        log = self._config.spool / f"{owned_name()}.{self._name}.{self._started}.log"
        return ChildProcess(self._config, log, standby=standby)

    def _drop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            self._end(child)

    def _end(self, child: ChildProcess) -> None:
        child.forget()
        if child.alive:
            self._undead.append(child)


@contextmanager
def _machine_refusals() -> Iterator[None]:
    """What the system denies the parent (memory for a process, open files) is the machine's trouble: no unit's fault.

    Raises:
        InputError: naming the machine.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{socket.gethostname()}: no worker process can run here: {error}; mend the machine"
        ) from error


def main(descriptor: int, parent: int, standby: bool) -> None:
    """Serve tasks in the child until the parent, whose process id this is, closes the socket or ends."""
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides what to end.
    channel = TimedChannel(socket.socket(fileno=descriptor))
    try:
        config: WorkerConfig = channel.receive()
        make_worker = _import(standby)
        channel.send(Notice.READY)
        worker = None
        while True:
            task = channel.receive()
            try:
                worker = worker or make_worker(config)
                outcome = worker.run(task, lambda: channel.send(Notice.FETCHED))
            except InputError as refusal:
                outcome = refusal
            except Exception:  # noqa: BLE001 - the outermost frame: the driver shall show it, not take it for a death
                outcome = Bug(redact(traceback.format_exc(), config.token))
            sys.stdout.flush()
            channel.send(outcome)
    except (EOFError, ConnectionError):
        return


def _import(standby: bool) -> "Callable[[WorkerConfig], Worker]":
    """Import what a worker needs, torch and all models' code included, and return what makes one.

    A spare imports in a thread of low priority: the niceness of a thread ends with it, that of a process could not be
    taken back when the spare takes over. Only Linux has it by thread. What an import raises, making the worker raises.
    """

    def load() -> None:
        if standby and sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), STANDBY_NICENESS)
        with suppress(Exception):  # it is raised again, where it is answered, when the module is asked for
            for module in NEEDED:
                import_module(module)

    thread = threading.Thread(target=load)
    thread.start()
    thread.join()

    def make(config: WorkerConfig) -> "Worker":
        from pipeline.worker import Worker

        return Worker(config)

    return make


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), "--standby" in sys.argv)
