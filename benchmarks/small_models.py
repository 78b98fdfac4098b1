"""Small Stable Diffusion repos for a hub, of which all but the UNet is the same, and their generators."""

from pathlib import Path
from typing import TYPE_CHECKING

from crawlers.hub.hub_client import HubClient
from manifests.generator import GeneratorSpec, SamplingParams, WeightFile

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

SIZE = 64
"""Pixels of an image's side."""


def build(root: Path, count: int, width: int) -> None:
    """Write `count` Stable Diffusion repos with UNets of their own, and VAE, text encoder and tokenizer in common.

    Args:
        width: channels of the UNet's first block; 4 × width² parameters, more or less twenty times.
    """
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    from pipeline.demo.toy_autoencoder import autoencoder
    from pipeline.demo.toy_text import clip_text_encoder, clip_tokenizer
    from pipeline.quiet import quiet_libraries

    quiet_libraries()
    tokenizer = clip_tokenizer()
    vae, text_encoder = autoencoder(0, "vae"), clip_text_encoder(tokenizer, 0, "text_encoder")
    for number in range(count):
        StableDiffusionPipeline(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=_unet(number, width),
            scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ).save_pretrained(root / "models" / "toy" / f"model-{number:02d}")


def _unet(seed: int, width: int) -> "UNet2DConditionModel":
    from diffusers import UNet2DConditionModel

    from pipeline.demo.toy_weights import scale_convolution, seeded

    with seeded(seed, "unet"):
        unet = UNet2DConditionModel(
            sample_size=SIZE // 8,
            block_out_channels=(width, 2 * width),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            norm_num_groups=8,
            attention_head_dim=8,
            cross_attention_dim=32,
        ).eval()
        scale_convolution(unet.conv_out, 1.0)
    return unet


def generators(endpoint: str, count: int, steps: int) -> list[GeneratorSpec]:
    """Return the models as a catalog would have them."""
    client = HubClient(endpoint)
    specs = []
    for number in range(count):
        info = client.model_info(f"toy/model-{number:02d}")
        weights = [file for file in info.siblings or [] if file.rfilename.endswith(".safetensors")]
        specs.append(
            GeneratorSpec(
                name=f"model-{number:02d}",
                kind="text-to-image",
                repo_id=info.id,
                revision=info.sha,
                pipeline_class="StableDiffusionPipeline",
                family="sd1",
                params=SamplingParams(steps=steps, guidance_scale=7.5, width=SIZE, height=SIZE),
                files=tuple(
                    WeightFile(
                        path=file.rfilename, size=file.size or 0, sha256=file.lfs["sha256"] if file.lfs else None
                    )
                    for file in weights
                ),
            )
        )
    return specs
