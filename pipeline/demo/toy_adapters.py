"""Toy repos that are no whole pipeline: what most of the hub's generators are, for `crayon-labs/toy-diffusion-v1`.

Each builder writes the model files of one repo, relative to that base built with the same seed. They are no part of
the demo's hub: `add_toy_adapters` writes them into a hub's folder when a test or a trial asks for them.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from manifests.errors import InputError
from pipeline.demo.toy_checkpoint import ldm_checkpoint
from pipeline.demo.toy_model import Builder, ToyModel
from pipeline.demo.toy_unet_pipelines import build_stable_diffusion, build_stable_diffusion_finetune
from pipeline.demo.toy_weights import seeded

if TYPE_CHECKING:
    import torch

TOY_BASE = "crayon-labs/toy-diffusion-v1"
KOHYA_FILE = "toy_doodles-000004.safetensors"
LORA_FILE = "pytorch_lora_weights.safetensors"
SINGLE_FILE = "toy_gouache_v1.safetensors"
EMBEDDING_FILE = "learned_embeds.safetensors"
PLACEHOLDER = "<toy-crayon>"

_RANK = 4
_STRENGTH = 0.3
"""Standard deviation of a LoRA's second factor: enough to change an image visibly, not enough to blow it up."""
_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
_TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


def build_lora(folder: Path, seed: int) -> None:
    """Write a LoRA of the UNet in diffusers' own format: `unet.….lora_A.weight` in pytorch_lora_weights.safetensors."""
    _save_lora(folder, _unet_factors(seed, "lora"))


def build_lcm_lora(folder: Path, seed: int) -> None:
    """Write the same kind of LoRA with other weights, for a repo whose name and card call it LCM-LoRA."""
    _save_lora(folder, _unet_factors(seed, "lcm-lora"))


def build_no_effect_lora(folder: Path, seed: int) -> None:
    """Write a LoRA as it is before its first training step: the second factor is zero, so that no weight changes."""
    factors = _unet_factors(seed, "no-effect-lora")
    _save_lora(folder, {key: value * 0 if ".lora_B." in key else value for key, value in factors.items()})


def build_kohya_lora(folder: Path, seed: int) -> None:
    """Write a LoRA of UNet and text encoder in the format of kohya's trainer, with its metadata and half alpha."""
    import torch
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}
    for prefix, factors in (
        ("lora_unet", _unet_factors(seed, "kohya-lora")),
        ("lora_te", {f"text_model.{key}": value for key, value in _text_factors(seed, "kohya-lora").items()}),
    ):
        for key, value in factors.items():
            module, factor, _ = key.rsplit(".", 2)
            name = f"{prefix}_{module.replace('.', '_')}"
            tensors[f"{name}.{'lora_down' if factor == 'lora_A' else 'lora_up'}.weight"] = value
            tensors[f"{name}.alpha"] = torch.tensor(_RANK / 2)
    save_file(tensors, folder / KOHYA_FILE, metadata=dict(_KOHYA_METADATA))


_KOHYA_METADATA = {
    "ss_sd_model_name": TOY_BASE,
    "ss_network_module": "networks.lora",
    "ss_network_dim": str(_RANK),
    "ss_network_alpha": str(_RANK / 2),
    "ss_tag_frequency": json.dumps({"10_toydoodle": {"toydoodle": 40, "a house": 12, "a red ball": 7}}),
}


def build_mismatched_lora(folder: Path, seed: int) -> None:
    """Write a LoRA for a transformer of FLUX's shape: no key of it fits the base, whatever its card says."""
    import torch
    from safetensors.torch import save_file

    width = 24
    with seeded(seed, "mismatched-lora"):
        tensors = {}
        for block in range(2):
            for part in ("to_q", "to_k", "to_v"):
                module = f"transformer.transformer_blocks.{block}.attn.{part}"
                tensors[f"{module}.lora_A.weight"] = torch.randn(_RANK, width)
                tensors[f"{module}.lora_B.weight"] = torch.randn(width, _RANK)
    save_file(tensors, folder / LORA_FILE, metadata={"format": "pt"})


def build_unet_only(folder: Path, seed: int) -> None:
    """Write a repo that holds nothing but a UNet at its root: config.json and its weights."""
    with TemporaryDirectory() as draft:
        build_stable_diffusion_finetune(Path(draft), seed + 6_000_000)
        for file in (Path(draft) / "unet").iterdir():
            (folder / file.name).write_bytes(file.read_bytes())


def build_single_file(folder: Path, seed: int) -> None:
    """Write one checkpoint in the original layout of SD 1.x: a UNet of its own, the base's VAE and text encoder."""
    from safetensors.torch import save_file

    unet = _weights(build_stable_diffusion_finetune, seed + 7_000_000, "unet/diffusion_pytorch_model")
    vae = _weights(build_stable_diffusion, seed, "vae/diffusion_pytorch_model")
    text_encoder = _weights(build_stable_diffusion, seed, "text_encoder/model")
    save_file(ldm_checkpoint(unet, vae, text_encoder), folder / SINGLE_FILE, metadata={"format": "pt"})


def build_textual_inversion(folder: Path, seed: int) -> None:
    """Write two learned vectors for one placeholder token, as diffusers' trainer saves them."""
    import torch
    from safetensors.torch import save_file

    width = _weights(build_stable_diffusion, seed, "text_encoder/model")["embeddings.token_embedding.weight"].shape[1]
    with seeded(seed, "textual-inversion"):
        vectors = 3.0 * torch.randn(2, width)
    save_file({PLACEHOLDER: vectors}, folder / EMBEDDING_FILE)


def _unet_factors(seed: int, name: str) -> "dict[str, torch.Tensor]":
    """Return LoRA factors for every attention of the base's UNet, named as peft names them."""
    shapes = {key: tuple(value.shape) for key, value in _base(seed, "unet/diffusion_pytorch_model").items()}
    return _factors(shapes, tuple(f".{target}" for target in _TARGETS), seed, f"{name}/unet")


def _text_factors(seed: int, name: str) -> "dict[str, torch.Tensor]":
    shapes = {key: tuple(value.shape) for key, value in _base(seed, "text_encoder/model").items()}
    return _factors(shapes, tuple(f".{target}" for target in _TEXT_TARGETS), seed, f"{name}/text_encoder")


def _factors(
    shapes: Mapping[str, tuple[int, ...]], targets: tuple[str, ...], seed: int, name: str
) -> "dict[str, torch.Tensor]":
    import torch

    factors: dict[str, torch.Tensor] = {}
    with seeded(seed, name):
        for key, shape in sorted(shapes.items()):
            module = key.removesuffix(".weight")
            if len(shape) == 2 and module.endswith(targets):
                width_out, width_in = shape
                factors[f"{module}.lora_A.weight"] = torch.randn(_RANK, width_in) / width_in**0.5
                factors[f"{module}.lora_B.weight"] = _STRENGTH * torch.randn(width_out, _RANK)
    return factors


def _save_lora(folder: Path, factors: "dict[str, torch.Tensor]") -> None:
    from diffusers import StableDiffusionPipeline

    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=factors)


def _base(seed: int, path: str) -> "dict[str, torch.Tensor]":
    return _weights(build_stable_diffusion, seed, path)


def _weights(build: Builder, seed: int, path: str) -> "dict[str, torch.Tensor]":
    """Return the tensors of one component of a toy pipeline, read from the files that its builder writes."""
    from safetensors.torch import load_file

    with TemporaryDirectory() as draft:
        build(Path(draft), seed)
        tensors: dict[str, torch.Tensor] = load_file(Path(draft) / f"{path}.safetensors")
        return tensors


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
