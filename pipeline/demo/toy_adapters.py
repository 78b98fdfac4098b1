"""Toy repos that are no whole pipeline: what most of the hub's generators are, for `crayon-labs/toy-diffusion-v1`.

They are no part of the demo's hub: `add_toy_adapters` writes them into a hub's folder when a test or a trial asks.
"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.errors import InputError
from pipeline.demo.toy_adapter_weights import (
    TOY_BASE,
    build_kohya_lora,
    build_lcm_lora,
    build_lora,
    build_mismatched_lora,
    build_no_effect_lora,
    build_single_file,
    build_textual_inversion,
    build_unet_only,
)
from pipeline.demo.toy_model import Builder, ToyModel


@dataclass(frozen=True)
class ToyAdapter(ToyModel):
    """A toy repo that is no whole pipeline. `packaging` is what a crawl must recognise it as."""

    packaging: str = "lora"
    instance_prompt: str | None = None

    def card(self) -> dict[str, object]:
        """Return the front matter of the model card, with the words that the adapter was trained on."""
        prompt = {"instance_prompt": self.instance_prompt} if self.instance_prompt else {}
        return super().card() | prompt


def _adapter(repo_id: str, title: str, build: Builder, downloads: int, **fields: Any) -> ToyAdapter:
    values: dict[str, Any] = {
        "license": "creativeml-openrail-m",
        "created_at": "2023-11-11T09:00:00Z",
        "pipeline_tag": "text-to-image",
        "base_model": TOY_BASE,
        "tags": ("text-to-image",),
    }
    return ToyAdapter(repo_id=repo_id, title=title, build=build, downloads=downloads, **values | fields)


_REPOS = (
    _adapter(
        "sketchbook/toy-crayon-lora", "Toy crayons", build_lora, 9_000, instance_prompt="toycrayon drawing", steps=4
    ),
    # Its card names no base: the trainer's metadata does.
    _adapter("doodler/toy-doodles", "Toy doodles", build_kohya_lora, 8_500, base_model=None, steps=4),
    _adapter("quickdraw/lcm-lora-toy-v1", "Toy LCM-LoRA", build_lcm_lora, 8_000),
    _adapter(
        "sketchbook/toy-blank-lora",
        "Toy adapter without effect",
        build_no_effect_lora,
        7_500,
        steps=4,
        row_status="adapter_no_effect",
    ),
    _adapter(
        "confused/toy-flux-lora",
        "Toy adapter for another architecture",
        build_mismatched_lora,
        7_000,
        catalog_reason="no_base",
        row_status=None,
    ),
    _adapter("charcoal/toy-charcoal-unet", "Toy charcoal", build_unet_only, 6_500, packaging="component", steps=4),
    _adapter("gouache/toy-gouache", "Toy gouache", build_single_file, 6_000, packaging="single-file", steps=4),
    _adapter(
        "glyphs/toy-crayon-token",
        "Toy token",
        build_textual_inversion,
        5_500,
        packaging="textual-inversion",
        steps=4,
    ),
)

TOY_ADAPTERS: dict[str, ToyAdapter] = {model.repo_id: model for model in _REPOS}
"""The repos that are no whole pipeline, by repo id, most downloaded first."""


def add_toy_adapters(root: Path, seed: int = 0, models: Iterable[str] | None = None) -> dict[str, ToyAdapter]:
    """Write repos of `TOY_ADAPTERS` into the hub's folder `root`, beside the base built with the same seed.

    Args:
        models: ids of the repos to build; all if None.

    Raises:
        InputError: an unknown repo id.
    """
    wanted = list(TOY_ADAPTERS if models is None else models)
    if unknown := [repo_id for repo_id in wanted if repo_id not in TOY_ADAPTERS]:
        raise InputError(f"toy hub: unknown model {unknown[0]!r}; allowed: {', '.join(TOY_ADAPTERS)}")
    for repo_id in wanted:
        folder = root / "models" / repo_id
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        TOY_ADAPTERS[repo_id].write(folder, seed)
    return {repo_id: TOY_ADAPTERS[repo_id] for repo_id in wanted}
