"""Toy pipelines whose denoiser is a UNet: Stable Diffusion 1.x, LCM, Stable Diffusion XL and DDPM."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.demo.photos import PHOTO_SIZE
from pipeline.demo.toy_autoencoder import VAE_SCALE, autoencoder
from pipeline.demo.toy_text import clip_text_encoder, clip_tokenizer, save_clip_vocabulary
from pipeline.demo.toy_weights import emphasise_text, scale_convolution, seeded

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

_LATENTS = PHOTO_SIZE // VAE_SCALE
_SD_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def build_stable_diffusion(folder: Path, seed: int) -> None:
    """Write a StableDiffusionPipeline in the layout of SD 1.x, with a DDIM scheduler."""
    _build_stable_diffusion(folder, seed, unet="sd/unet")


def build_stable_diffusion_finetune(folder: Path, seed: int) -> None:
    """Write a second SD 1.x: the first one's VAE and text encoder byte by byte, and a UNet of its own.

    So it is with most of the hub's fine-tunes, and a run must fetch and load the shared parts once.
    """
    _build_stable_diffusion(folder, seed, unet="sd-finetune/unet")


def _build_stable_diffusion(folder: Path, seed: int, unet: str) -> None:
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    tokenizer = clip_tokenizer()
    pipeline = StableDiffusionPipeline(
        vae=autoencoder(seed, "sd/vae"),
        text_encoder=clip_text_encoder(tokenizer, seed, "sd/text_encoder"),
        tokenizer=tokenizer,
        unet=_conditional_unet(seed, unet, text_width=32),
        scheduler=DDIMScheduler(**_SD_BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    save_clip_vocabulary(tokenizer, folder / "tokenizer")


def build_latent_consistency(folder: Path, seed: int) -> None:
    """Write a LatentConsistencyModelPipeline: the guidance scale enters the UNet as an embedding."""
    from diffusers import LatentConsistencyModelPipeline, LCMScheduler

    tokenizer = clip_tokenizer()
    pipeline = LatentConsistencyModelPipeline(
        vae=autoencoder(seed, "lcm/vae", channels=(16, 16, 32, 32), contrast=0.3),
        text_encoder=clip_text_encoder(tokenizer, seed, "lcm/text_encoder"),
        tokenizer=tokenizer,
        unet=_conditional_unet(seed, "lcm/unet", text_width=32, options={"time_cond_proj_dim": 32}),
        scheduler=LCMScheduler(**_SD_BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    save_clip_vocabulary(tokenizer, folder / "tokenizer")


def build_stable_diffusion_xl(folder: Path, seed: int) -> None:
    """Write a StableDiffusionXLPipeline: two text encoders, pooled text and size conditioning."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    tokenizer = clip_tokenizer()
    first, second, time_ids, time_width = 32, 48, 6, 8
    pipeline = StableDiffusionXLPipeline(
        vae=autoencoder(seed, "sdxl/vae", channels=(16, 32, 48, 48), contrast=0.4, scaling_factor=0.13025),
        text_encoder=clip_text_encoder(tokenizer, seed, "sdxl/text_encoder", width=first),
        text_encoder_2=clip_text_encoder(tokenizer, seed, "sdxl/text_encoder_2", width=second, projection=True),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=_conditional_unet(
            seed,
            "sdxl/unet",
            text_width=first + second,
            options={
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": time_width,
                "projection_class_embeddings_input_dim": second + time_ids * time_width,
                "transformer_layers_per_block": (1, 2),
                "use_linear_projection": True,
            },
        ),
        scheduler=EulerDiscreteScheduler(**_SD_BETAS, timestep_spacing="leading", steps_offset=1),
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    for name in ("tokenizer", "tokenizer_2"):
        save_clip_vocabulary(tokenizer, folder / name)


def build_ddpm(folder: Path, seed: int) -> None:
    """Write a DDPMPipeline: unconditional diffusion on the pixels themselves.

    The UNet predicts the image rather than the noise, else an untrained one leaves the noise as it is.
    """
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    with seeded(seed, "ddpm/unet"):
        unet = UNet2DModel(
            sample_size=PHOTO_SIZE,
            block_out_channels=(16, 32, 32),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
            norm_num_groups=8,
        ).eval()
        scale_convolution(unet.conv_out, 0.35)
    scheduler = DDPMScheduler(prediction_type="sample")
    DDPMPipeline(unet=unet, scheduler=scheduler).save_pretrained(folder, safe_serialization=True)


def _conditional_unet(
    seed: int,
    name: str,
    text_width: int,
    options: dict[str, object] | None = None,
) -> "UNet2DConditionModel":
    from diffusers import UNet2DConditionModel

    with seeded(seed, name):
        unet = UNet2DConditionModel(
            sample_size=_LATENTS,
            block_out_channels=(32, 48),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            norm_num_groups=8,
            attention_head_dim=4,
            cross_attention_dim=text_width,
            **(options or {}),
        ).eval()
        scale_convolution(unet.conv_out, 1.0)
    emphasise_text(unet)
    return unet
