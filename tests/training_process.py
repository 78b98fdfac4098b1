"""Training in a process of its own, which may kill itself in the middle."""

import os
import signal
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from toy_runs import environment
from warm_start import warm_context

from detectors.train_config import TrainConfig
from detectors.training import TrainProgress, train


def start_training(
    data: Path, out: Path, settings: TrainConfig, kill_at: int | None = None, variables: Mapping[str, str] | None = None
) -> ForkServerProcess:
    """Train with further environment `variables`; the process kills itself when it reports iteration `kill_at`."""
    process = warm_context(environment()).Process(target=_train, args=(data, out, settings, kill_at, variables or {}))
    process.start()
    return process


def _train(data: Path, out: Path, settings: TrainConfig, kill_at: int | None, variables: Mapping[str, str]) -> None:
    def progress(event: TrainProgress) -> None:
        if event.iteration == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    os.environ.update(variables)
    train(data, out, settings, progress=progress)
