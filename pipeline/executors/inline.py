"""The executor of one worker in the driver's own process: no Ray, no other process, easy to debug."""

import os
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from crawlers.hub.hub_errors import redact
from manifests.errors import InputError
from pipeline.deaths import InFlight
from pipeline.interruption import DeviceLost
from pipeline.tasks import Bug, Failed, Outcome, Task
from pipeline.worker import Worker
from pipeline.worker_config import WorkerConfig
from shards.statuses import Reason

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG")


class InlineExecutor:
    """Runs each task at once. A unit's time limit needs a process that can be ended, so it does not apply here.

    A worker pins threads and chooses kernels for its whole process; `close` puts them back, so that what the driver
    does later, such as training, does not depend on the executor.

    A model that crashes takes the driver with it, and one that breaks the device ends the run. Then the next driver
    knows under which unit, and quarantines that unit as if a worker of its own had died.

    Args:
        deaths: folder where the unit under way is noted.
    """

    def __init__(self, config: WorkerConfig, deaths: Path) -> None:
        self._config = config
        self._deaths = deaths
        self._in_flight: InFlight | None = None
        self._worker: Worker | None = None
        self._outcome: Outcome | None = None
        self._restore: Callable[[], None] | None = None

    def start(self) -> None:
        restore = _restorer()
        self._worker = Worker(self._config)
        self._restore = restore
        self._in_flight = InFlight(self._deaths)

    def idle(self) -> list[int]:
        return [] if self._outcome is not None else [0]

    def up(self) -> set[int]:
        return {0}

    def submit(self, worker: int, task: Task, *, fresh: bool) -> None:
        if self._worker is None or self._in_flight is None:
            raise RuntimeError("submit() before start()")
        if fresh:
            self._worker.close()
            self._worker = Worker(self._config)
        with self._in_flight.unit(task):
            try:
                outcome = self._worker.run(task)
            except InputError as refusal:
                self._outcome = refusal
                return
            except KeyboardInterrupt:
                raise
            except Exception:  # noqa: BLE001 - as in a worker process: one unit's trouble, whatever it is
                self._outcome = Bug(redact(traceback.format_exc(), self._config.token))
                self._worker.close()
                self._worker = Worker(self._config)
                return
            if isinstance(outcome, Failed) and outcome.reason is Reason.device_lost:
                raise DeviceLost(f"execute.device: {outcome.detail}; the same command goes on from here")
        self._outcome = outcome

    def starting(self) -> bool:
        return False

    def wait(self, timeout: float | None = None) -> tuple[int, Outcome]:
        outcome = self._outcome
        if outcome is None:
            raise RuntimeError("wait() without a submitted task")
        self._outcome = None
        return 0, outcome

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None
        if self._in_flight is not None:
            self._in_flight.close()
            self._in_flight = None
        if self._restore is not None:
            self._restore()
            self._restore = None


def _restorer() -> Callable[[], None]:
    """Return what puts torch's threads and kernel choices back to what they are now."""
    threads = torch.get_num_threads()
    algorithms = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    kernels = (cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, matmul.allow_tf32)
    variables = {name: os.environ.get(name) for name in _VARIABLES}

    def restore() -> None:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(algorithms, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
        cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, matmul.allow_tf32 = kernels
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    return restore
