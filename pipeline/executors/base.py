"""What every executor promises: workers that take a task each, and one outcome for every task taken."""

from typing import Protocol

from pipeline.tasks import Outcome, Task


class Executor(Protocol):
    """Runs tasks on workers numbered 0, 1, ...

    The driver submits only to idle workers, and `wait` returns exactly one outcome for each submitted task, also
    when the worker dies: then the executor is already replacing it.
    """

    def start(self) -> None:
        """Bring the workers up."""

    def idle(self) -> list[int]:
        """Return the workers that are up and hold no task; those that still come up are not among them."""

    def up(self) -> set[int]:
        """Return the workers that can be given tasks, now or when they have done what they hold."""

    def submit(self, worker: int, task: Task, *, fresh: bool) -> None:
        """Give an idle worker a task; `fresh` asks for a worker that has run nothing yet."""

    def starting(self) -> bool:
        """Whether workers are still to come up."""

    def wait(self, timeout: float | None = None) -> tuple[int, Outcome] | None:
        """Block until a task ends and return its worker and outcome; None when a worker came up before that, or after
        `timeout` seconds."""

    def close(self) -> None:
        """End the workers, running tasks included; nothing they publish afterwards is committed."""
