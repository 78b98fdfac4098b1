"""Where workers run. A new executor is one file here and one line in `make_executor`."""

from pipeline.config import ExecuteConfig
from pipeline.executors.base import Executor
from pipeline.worker_config import WorkerConfig


def make_executor(execute: ExecuteConfig, config: WorkerConfig) -> Executor:
    """Return the configured executor, not yet started."""
    if execute.executor == "ray":
        from pipeline.executors.ray_auth import use_token

        use_token(execute.ray_address)
        from pipeline.executors.ray import RayExecutor

        return RayExecutor(config, execute)
    from pipeline.executors.inline import InlineExecutor

    return InlineExecutor(config)
