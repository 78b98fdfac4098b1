"""What a worker must know about the run, wherever it is started."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class WorkerConfig:
    """Paths are the worker's own view; an object store or a shared file system makes them the same everywhere."""

    dataset: Path
    spool: Path
    endpoint: str
    token: str | None = field(repr=False)
    cache: Path | None
    download_timeout: float
    unit_timeout: float
    cpu_threads: int
    device: str
    disk_budget: int | None = None
    prefetch: int = 1
    gpus_per_worker: float = 0.0
    offload: str = "auto"
    compile: bool = False
    spares: int = 0
    tasks_per_worker: int | None = None
    worker_memory: int | None = None
