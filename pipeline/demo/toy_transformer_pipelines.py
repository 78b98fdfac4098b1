"""Toy pipelines whose denoiser is a transformer: PixArt-Σ, Stable Diffusion 3 and DiT."""

import json
from pathlib import Path

from pipeline.demo.photos import PHOTO_SIZE
from pipeline.demo.toy_autoencoder import VAE_SCALE, autoencoder
from pipeline.demo.toy_text import (
    clip_text_encoder,
    clip_tokenizer,
    save_clip_vocabulary,
    t5_encoder,
    t5_tokenizer,
)
from pipeline.demo.toy_weights import emphasise_text, scale_projection, seeded

_LATENTS = PHOTO_SIZE // VAE_SCALE
_HEADS, _HEAD_WIDTH = 4, 8


def build_pixart_sigma(folder: Path, seed: int) -> None:
    """Write a PixArtSigmaPipeline: a T5 encoder, and a transformer that also predicts the variance."""
    from diffusers import DPMSolverMultistepScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel

    tokenizer = t5_tokenizer()
    text_width = 32
    with seeded(seed, "pixart/transformer"):
        transformer = PixArtTransformer2DModel(
            sample_size=_LATENTS,
            num_layers=2,
            patch_size=2,
            in_channels=4,
            out_channels=8,
            num_attention_heads=_HEADS,
            attention_head_dim=_HEAD_WIDTH,
            cross_attention_dim=_HEADS * _HEAD_WIDTH,
            caption_channels=text_width,
            use_additional_conditions=False,
        ).eval()
        scale_projection(transformer.proj_out, 1.0)
    emphasise_text(transformer)
    PixArtSigmaPipeline(
        vae=autoencoder(seed, "pixart/vae", channels=(16, 32, 32, 64), contrast=0.3, scaling_factor=0.13025),
        text_encoder=t5_encoder(tokenizer, seed, "pixart/text_encoder", width=text_width),
        tokenizer=tokenizer,
        transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(),
    ).save_pretrained(folder, safe_serialization=True)


def build_stable_diffusion_3(folder: Path, seed: int) -> None:
    """Write a StableDiffusion3Pipeline: two CLIP encoders and T5, 16 latent channels, flow matching."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    clip, t5 = clip_tokenizer(), t5_tokenizer()
    clip_width, latent_channels = 32, 16
    with seeded(seed, "sd3/transformer"):
        transformer = SD3Transformer2DModel(
            sample_size=_LATENTS,
            patch_size=2,
            in_channels=latent_channels,
            out_channels=latent_channels,
            num_layers=2,
            num_attention_heads=_HEADS,
            attention_head_dim=_HEAD_WIDTH,
            caption_projection_dim=_HEADS * _HEAD_WIDTH,
            joint_attention_dim=2 * clip_width,
            pooled_projection_dim=2 * clip_width,
        ).eval()
        scale_projection(transformer.proj_out, 1.0)
    StableDiffusion3Pipeline(
        vae=autoencoder(
            seed,
            "sd3/vae",
            channels=(16, 16, 32, 48),
            latent_channels=latent_channels,
            contrast=0.45,
            scaling_factor=1.5305,
            shift_factor=0.0609,
            quantised=False,
        ),
        text_encoder=clip_text_encoder(clip, seed, "sd3/text_encoder", width=clip_width, projection=True),
        text_encoder_2=clip_text_encoder(clip, seed, "sd3/text_encoder_2", width=clip_width, projection=True),
        text_encoder_3=t5_encoder(t5, seed, "sd3/text_encoder_3", width=2 * clip_width),
        tokenizer=clip,
        tokenizer_2=clip,
        tokenizer_3=t5,
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    ).save_pretrained(folder, safe_serialization=True)
    for name in ("tokenizer", "tokenizer_2"):
        save_clip_vocabulary(clip, folder / name)


def build_dit(folder: Path, seed: int) -> None:
    """Write a DiTPipeline over ImageNet's 1,000 classes, with `id2label` in model_index.json as published.

    The pipeline reads `id2label` but does not save it, so it is added to the saved description.
    """
    from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel
    from timm.data import ImageNetInfo

    with seeded(seed, "dit/transformer"):
        transformer = DiTTransformer2DModel(
            sample_size=_LATENTS,
            num_layers=2,
            patch_size=2,
            in_channels=4,
            out_channels=8,
            num_attention_heads=_HEADS,
            attention_head_dim=_HEAD_WIDTH,
            num_embeds_ada_norm=1000,
        ).eval()
        scale_projection(transformer.proj_out_2, 1.0)
    DiTPipeline(
        transformer=transformer,
        vae=autoencoder(seed, "dit/vae", channels=(16, 32, 64, 64), contrast=0.4),
        scheduler=DDIMScheduler(clip_sample=False),
    ).save_pretrained(folder, safe_serialization=True)
    index = folder / "model_index.json"
    description = json.loads(index.read_text(encoding="utf-8"))
    description["id2label"] = {str(number): label for number, label in enumerate(ImageNetInfo().label_descriptions())}
    index.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
