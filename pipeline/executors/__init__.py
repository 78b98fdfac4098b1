"""Where workers run. A new executor is one file here and one line in `make_executor`."""

from pathlib import Path

from pipeline.config import ExecuteConfig
from pipeline.executors.base import Executor
from pipeline.worker_config import WorkerConfig


def make_executor(execute: ExecuteConfig, config: WorkerConfig, deaths: Path) -> Executor:
    """Return the configured executor, not yet started; `deaths` is the run's folder of that name."""
    if execute.executor == "ray":
        from pipeline.executors.ray_auth import use_token

        use_token(execute.ray_address)
        from pipeline.executors.ray import RayExecutor

        return RayExecutor(config, execute)
    from pipeline.executors.inline import InlineExecutor

    return InlineExecutor(config, deaths)
