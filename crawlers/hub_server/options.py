"""What a hub server may be told, apart from the folder it serves."""

from pathlib import Path

from pydantic import Field

from manifests.frozen import FrozenModel


class HubOptions(FrozenModel):
    """Server-wide options. The defaults are an honest, unthrottled hub."""

    bandwidth: float | None = Field(default=None, gt=0)
    """Bytes per second of all file bodies together, as one shared link; None for no limit."""
    latency: float = Field(default=0.0, ge=0)
    """Seconds waited before every answer."""
    page_size: int = Field(default=1000, ge=1, le=1000)
    """Entries on one page of a repo listing or a file tree (the public hub's is 1000)."""
    request_log: bool = False
    """Whether ``GET /-/requests`` tells what was asked. It names private repos, so it is off by default."""
    fault_token: str | None = Field(default=None, min_length=1)
    """Bearer token with which ``/-/faults`` tells the running hub to misbehave; None: there is no such address."""
    hash_cache: Path | None = None
    """File that keeps file hashes between starts; default ``ROOT/.hub-hashes.json``."""
