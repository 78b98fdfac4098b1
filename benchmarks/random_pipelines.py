"""Pipelines of the published sizes with random weights, on disk: what they compute costs what the real ones' does."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from manifests.draws import Draw
from manifests.generator import GeneratorSpec, SamplingParams
from pipeline.demo.toy_text import clip_tokenizer, save_clip_vocabulary
from pipeline.demo.toy_weights import scale_convolution

_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_CROSS, _CROSS_UP = ("CrossAttnDownBlock2D", "DownBlock2D"), ("CrossAttnUpBlock2D", "UpBlock2D")


@dataclass(frozen=True)
class Size:
    """How large a pipeline is. `text` holds width, layers and heads of each text encoder."""

    family: str
    pixels: int
    steps: int
    guidance_scale: float
    text: tuple[tuple[int, int, int], ...]
    vae_channels: tuple[int, ...]
    unet: dict[str, Any] = field(default_factory=dict)
    scaling_factor: float = 0.18215
    vae_layers: int = 2


SIZES: dict[str, Size] = {
    "toy": Size(
        "sd1",
        64,
        4,
        7.5,
        ((32, 2, 4),),
        (16, 32, 32, 32),
        {
            "block_out_channels": (32, 48),
            "layers_per_block": 1,
            "down_block_types": _CROSS,
            "up_block_types": _CROSS_UP[::-1],
            "norm_num_groups": 8,
            "attention_head_dim": 4,
        },
        vae_layers=1,
    ),
    # Large enough that a batch of four takes a CPU about a second.
    "small": Size(
        "sd1",
        128,
        8,
        7.5,
        ((64, 4, 4),),
        (32, 64, 64, 64),
        {
            "block_out_channels": (64, 128),
            "layers_per_block": 1,
            "down_block_types": _CROSS,
            "up_block_types": _CROSS_UP[::-1],
            "norm_num_groups": 16,
            "attention_head_dim": 8,
        },
        vae_layers=1,
    ),
    # The published configs: 860 million and 2.57 thousand million parameters in the UNet.
    "sd15": Size(
        "sd1",
        512,
        50,
        7.5,
        ((768, 12, 12),),
        (128, 256, 512, 512),
        {
            "block_out_channels": (320, 640, 1280, 1280),
            "down_block_types": (*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
            "up_block_types": ("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
            "attention_head_dim": 8,
        },
    ),
    "sdxl": Size(
        "sdxl",
        1024,
        50,
        5.0,
        ((768, 12, 12), (1280, 32, 20)),
        (128, 256, 512, 512),
        {
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        scaling_factor=0.13025,
    ),
}


def build_models(size: Size, root: Path, count: int, dtype: torch.dtype, device: str) -> list[Path]:
    """Write `count` repos that share text encoders and VAE and have a UNet each; drawn on `device`, stored in `dtype`.

    Files of shared parts are hard links, as a cache that knows equal content would keep them.
    """
    folders = [root / f"model-{number}" for number in range(count)]
    for number, folder in enumerate(folders):
        if number == 0:
            _pipeline(size, dtype, device).save_pretrained(folder)
            for name in ("tokenizer", "tokenizer_2"):
                if (folder / name).exists():
                    save_clip_vocabulary(clip_tokenizer(), folder / name)
        else:
            keep_unet: Callable[[str, list[str]], list[str]] = lambda path, names: [n for n in names if n == "unet"]  # noqa: E731
            shutil.copytree(folders[0], folder, copy_function=_link, ignore=keep_unet)
            _unet(size, number, dtype, device).save_pretrained(folder / "unet")
    return folders


def spec_of(size: Size, number: int, steps: int | None = None) -> GeneratorSpec:
    """The generator that model `number` is."""
    params = SamplingParams(
        steps=steps or size.steps, guidance_scale=size.guidance_scale, width=size.pixels, height=size.pixels
    )
    return GeneratorSpec(
        name=f"random--model-{number}",
        kind="text-to-image",
        repo_id=f"random/model-{number}",
        revision="0" * 40,
        family=size.family,
        params=params,
    )


def draws_of(count: int) -> tuple[Draw, ...]:
    """`count` draws, each with a prompt and a seed of its own."""
    return tuple(
        Draw(index=n, seed=n, prompt_id=f"p{n}", prompt=f"a red cat on table number {n}", prompt_source="caption")
        for n in range(count)
    )


def _link(source: str, target: str) -> str:
    Path(target).hardlink_to(source)
    return target


def _pipeline(size: Size, dtype: torch.dtype, device: str) -> Any:
    tokenizer = clip_tokenizer()
    with torch.device(device):
        torch.manual_seed(10_000)
        encoders = [
            (CLIPTextModelWithProjection if place else CLIPTextModel)(_text_config(len(tokenizer), *shape)).to(dtype)
            for place, shape in enumerate(size.text)
        ]
        vae = AutoencoderKL(
            sample_size=size.pixels,
            block_out_channels=size.vae_channels,
            layers_per_block=size.vae_layers,
            down_block_types=("DownEncoderBlock2D",) * len(size.vae_channels),
            up_block_types=("UpDecoderBlock2D",) * len(size.vae_channels),
            latent_channels=4,
            norm_num_groups=min(32, size.vae_channels[0] // 2),
            scaling_factor=size.scaling_factor,
        )
        scale_convolution(vae.decoder.conv_out, 0.4)
    parts = {"vae": vae.to(dtype), "unet": _unet(size, 0, dtype, device), "text_encoder": encoders[0]}
    if size.family == "sdxl":
        return StableDiffusionXLPipeline(
            **parts,
            text_encoder_2=encoders[1],
            tokenizer=tokenizer,
            tokenizer_2=tokenizer,
            scheduler=EulerDiscreteScheduler(**_BETAS, timestep_spacing="leading", steps_offset=1),
            add_watermarker=False,
        )
    return StableDiffusionPipeline(
        **parts,
        tokenizer=tokenizer,
        scheduler=DDIMScheduler(**_BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _text_config(words: int, width: int, layers: int, heads: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=words,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        projection_dim=width,
        max_position_embeddings=77,
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        pad_token_id=words - 1,
    )


def _unet(size: Size, number: int, dtype: torch.dtype, device: str) -> UNet2DConditionModel:
    with torch.device(device):
        torch.manual_seed(number)
        unet = UNet2DConditionModel(
            sample_size=size.pixels // 8, cross_attention_dim=sum(width for width, *_ in size.text), **size.unet
        )
        scale_convolution(unet.conv_out, 1.0)
    return unet.to(dtype)
