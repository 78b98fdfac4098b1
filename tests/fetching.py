"""What tests of fetching share: names of a pipeline's files, what a hub sent, and downloads in this very process."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crawlers.fetching.download import Downloads
from crawlers.fetching.download_order import DownloadOrder
from crawlers.fetching.download_process import carry_out
from crawlers.fetching.fetch import pin_revision
from crawlers.hub_server.server import HubServer

UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
PIPELINE_FILES = {
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "unet/config.json",
    "vae/config.json",
    TEXT,
    UNET,
    VAE,
}


def files_in(folder: Path) -> set[str]:
    """Return the paths of all files below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def bodies(hub: HubServer, since: int = 0) -> dict[str, int]:
    """Return file (repo and path) to how many bytes of it were sent."""
    sent: dict[str, int] = {}
    for record in hub.requests(since):
        if record.method == "GET" and "/resolve/" in record.path:
            repo, _, rest = record.path.partition("/resolve/")
            name = f"{repo[1:]}:{rest.split('/', 1)[1]}"
            sent[name] = sent.get(name, 0) + record.sent
    return sent


def order(hub: HubServer, repo_id: str, token: str | None = None, **more: Any) -> DownloadOrder:
    """Return an order for a repo at the commit that its main branch is at."""
    return DownloadOrder(repo_id=repo_id, revision=pin_revision(repo_id, hub.endpoint, token), **more)


def hub_revision(hub: HubServer, repo_id: str) -> str:
    """Return a repo's commit from the listing, which no fault of the repo touches."""
    from huggingface_hub import HfApi

    return next(str(m.sha) for m in HfApi(hub.endpoint).list_models(full=True) if m.id == repo_id)


def snapshot(cache: Path, ordered: DownloadOrder) -> Path:
    """Return the folder that holds an order's files."""
    return cache / f"models--{ordered.repo_id.replace('/', '--')}" / "snapshots" / ordered.revision


def failure(
    ordered: DownloadOrder, endpoint: str, cache: Path, token: str | None = None, **more: Any
) -> dict[str, str]:
    """Carry out an order in this process and return why it failed; {} when it did not."""
    answer, pins = carry_out(Downloads(endpoint, cache, token, **more), [ordered], token)
    if pins is not None:
        pins.out()
        assert answer.keys() == {"moved"}
        return {}
    return answer


def partials(cache: Path) -> dict[Path, int]:
    """Return the partial files of a cache and their sizes; what is finished meanwhile is left out."""
    sizes = {}
    for path in cache.rglob("*.incomplete"):
        with contextlib.suppress(FileNotFoundError):
            sizes[path] = path.stat().st_size
    return sizes


def wait_until(true: Callable[[], object], seconds: float = 30) -> None:
    """Wait for a condition; an AssertionError when it does not come true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
