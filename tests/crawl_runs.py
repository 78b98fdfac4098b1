"""Crawls of small hub folders, as the tests of the crawl need them."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from crawlers.catalog import read_catalog
from crawlers.crawling.catalog_builder import crawl
from crawlers.crawling.crawl_request import CrawlRequest
from crawlers.hub.retrying import RetryPolicy
from crawlers.hub_server.server import HubServer
from manifests.catalog import CatalogRow

LORA = save(
    {
        f"unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora.{side}.weight": np.ones(
            shape, np.float32
        )
        for side, shape in (("down", (4, 320)), ("up", (320, 4)))
    }
)
"""The bytes of a LoRA for the UNet of Stable Diffusion 1."""
QUICK = RetryPolicy(attempts=3, first_wait=0.01)


def rows_of(hub: HubServer, out: Path, **request: Any) -> dict[str, CatalogRow]:
    crawl(CrawlRequest(endpoint=hub.endpoint, **request), out, policy=QUICK)
    return {row.repo_id: row for row in read_catalog(out)}


def asked_repos(hub: HubServer, since: int = 0) -> list[str]:
    """Return the repos whose description was asked for."""
    paths = [record.path.split("?")[0] for record in hub.requests(since)]
    return [path.removeprefix("/api/models/") for path in paths if path.startswith("/api/models/")]


def make_one_of_each(hub_folder: Any) -> dict[str, tuple[str, str | None]]:
    """Write a repo for every catalog reason; return repo id to (reason, words of the detail)."""
    folder = hub_folder
    folder.sd("z/fine", downloads=100, likes=3, card={"license": "mit", "base_model": "gone/base"})
    folder.sd("z/sub", drop=("\0",), downloads=95)
    inside = folder.root / "models" / "z" / "sub"
    (inside / "pipeline").mkdir()
    for path in list(inside.iterdir()):
        if path.name not in ("pipeline", ".hub.yaml"):
            path.rename(inside / "pipeline" / path.name)
    folder.sd("b/gated", downloads=90, gated="auto")
    folder.sd("c/gone", downloads=80, behaviour={"missing": True})
    folder.repo("d/notes", {"notes.txt": b"no model at all"}, downloads=71)
    folder.repo("d/lora", {"pytorch_lora_weights.safetensors": LORA}, downloads=70, card={"base_model": "gone/base"})
    folder.sd("e/bad-index", downloads=60, files={"model_index.json": b"{not json"})
    folder.sd("e/bad-class", downloads=59, files={"model_index.json": {"_class_name": 3, "unet": ["a", "b"]}})
    folder.sd("e/bad-config", downloads=58, files={"unet/config.json": b"\xff"})
    folder.sd("f/pickle", drop=("unet",), downloads=50, files={"unet/diffusion_pytorch_model.bin": b"pickle"})
    folder.sd("g/empty", drop=("unet",), downloads=40)
    inpaint = {"_class_name": "StableDiffusionInpaintPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    folder.sd("h/inpaint", downloads=30, files={"model_index.json": inpaint})
    custom = {"_class_name": ["mine", "MyPipeline"], "unet": ["diffusers", "UNet2DConditionModel"]}
    folder.sd("i/code", downloads=20, files={"model_index.json": custom, "mine.py": b"import os"})
    folder.sd("j/broken", downloads=15, behaviour={"broken_first": 10_000})
    folder.sd("k/research", downloads=10, card={"license": "other", "license_name": "non-commercial-x"})
    folder.sd("z/third", downloads=5)
    return {
        "z/fine": ("ok", None),
        "z/sub": ("ok", None),
        "b/gated": ("gated", "auto approval"),
        "c/gone": ("gone", "404"),
        "d/notes": ("no_model_index", ""),
        "d/lora": ("no_base", "gone/base"),
        "e/bad-index": ("bad_model_index", "model_index.json is not JSON"),
        "e/bad-class": ("bad_model_index", "_class_name is 3"),
        "e/bad-config": ("bad_model_index", "unet/config.json is not JSON"),
        "f/pickle": ("pickle_only", "unet: no safetensors, only pickles"),
        "g/empty": ("no_weights", "unet: UNet2DConditionModel has no weights"),
        "h/inpaint": ("unsupported_pipeline", "StableDiffusionInpaintPipeline"),
        "i/code": ("remote_code", "mine.py"),
        "j/broken": ("unavailable", "503"),
        "k/research": ("licence_denied", "'*non-commercial*'"),
        "z/third": ("filtered", "z has 2 models already"),
    }


def adapter(hub_folder: Any, repo_id: str, base: str, **hub: Any) -> None:
    """Write a LoRA repo on a base; the hub's listing calls it an adapter of that base."""
    card = {"base_model": base, "base_model_relation": "adapter", **hub.pop("card", {})}
    hub_folder.repo(repo_id, {"pytorch_lora_weights.safetensors": LORA}, card=card, **hub)
