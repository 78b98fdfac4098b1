"""The hub that the run's models came from: its address, its pages, and how to have it again where it is local."""

import re
import shlex
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pipeline.run_folder import RunFolder

HUB = "https://huggingface.co"
"""Where models come from unless the configuration says otherwise."""

_REPO_ID = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?")
_LOCAL_HOSTS = re.compile(r"localhost|127\..*|0\.0\.0\.0|::1")


def endpoint_of(config: Mapping[str, Any]) -> str:
    """The hub's address in a run's configuration."""
    hub = config.get("hub")
    return str(hub.get("endpoint") or HUB) if isinstance(hub, dict) else HUB


def cache_of(config: Mapping[str, Any]) -> str | None:
    """The folder of downloaded models in a run's configuration; None for the hub client's own."""
    hub = config.get("hub")
    return str(hub["cache"]) if isinstance(hub, dict) and hub.get("cache") else None


def is_local(endpoint: str) -> bool:
    """Whether the address is that of the machine itself: nobody else can follow it."""
    return _LOCAL_HOSTS.fullmatch(urlsplit(endpoint).hostname or "") is not None


def model_page(repo_id: str, endpoint: str | None) -> str | None:
    """The address of a model's page; None where there is none to be followed."""
    if endpoint is None or not _REPO_ID.fullmatch(repo_id):
        return None
    address = urlsplit(endpoint)
    if address.scheme not in ("http", "https") or not address.hostname or is_local(endpoint):
        return None
    return f"{endpoint.rstrip('/')}/{repo_id}"


def serve_command(run: RunFolder, output: str, endpoint: str) -> str | None:
    """What starts the demo's toy hub again at the run's address; None for any other run."""
    port = urlsplit(endpoint).port
    if not is_local(endpoint) or port is None or not (run.root / "toy" / "hub").is_dir():
        return None
    return f"commforge hub serve {shlex.quote(f'{output}/toy/hub')} --port {port}"
