"""The executor of one worker in the driver's own process: no Ray, no other process, easy to debug."""

from pipeline.tasks import Outcome, Task
from pipeline.worker import Worker
from pipeline.worker_config import WorkerConfig


class InlineExecutor:
    """Runs each task at once. A unit's time limit needs a process that can be ended, so it does not apply here."""

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._worker: Worker | None = None
        self._outcome: Outcome | None = None

    def start(self) -> None:
        self._worker = Worker(self._config)

    def idle(self) -> list[int]:
        return [] if self._outcome is not None else [0]

    def submit(self, worker: int, task: Task, *, fresh: bool) -> None:
        if fresh or self._worker is None:
            self._worker = Worker(self._config)
        self._outcome = self._worker.run(task)

    def wait(self) -> tuple[int, Outcome]:
        outcome = self._outcome
        if outcome is None:
            raise RuntimeError("wait() without a submitted task")
        self._outcome = None
        return 0, outcome

    def close(self) -> None:
        self._worker = None
