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
