"""The weights of toy repos that are no whole pipeline, each relative to the toy base built with the same seed.

Every builder writes the model files of one repo into its folder.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pipeline.demo.toy_checkpoint import ldm_checkpoint
from pipeline.demo.toy_model import Builder
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
