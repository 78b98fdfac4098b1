"""The families: what a generator's way of being sampled is when neither its manifest, card, name nor config says.

Native pixels, steps and guidance as the models' authors publish them. The table is data; `family_evidence`
decides which row a repo belongs to and `resolution` takes values from it, last but for the call's own
signature. A value of None is left to the pipeline. Every row can be sampled: families whose pipelines need a second
repo (see `crawlers.recognition.pipeline_classes.NEEDS_ANOTHER_REPO`) have none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from manifests.generator import Architecture

_NO_BINNING: Mapping[str, Any] = {"use_resolution_binning": False}
"""Binning makes the image at another size and resizes it: a resampling trace that is not the generator's."""


@dataclass(frozen=True)
class Family:
    """One row of the table.

    Attributes:
        pixels: native side, where no config tells it.
        call_kwargs: further arguments that this family needs to be sampled as its authors do, or without hidden
            resampling.
        scheduler_config: entries that the scheduler needs where the repo's own config does not speak of them.
        negative_prompt: only where guidance is off without one.
        config_tells_size: False where the config's latent side is not the size that the model was trained at.
    """

    architecture: Architecture = "LatentDiff"
    pixels: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    call_kwargs: Mapping[str, Any] = field(default_factory=dict)
    scheduler_config: Mapping[str, Any] = field(default_factory=dict)
    negative_prompt: str | None = None
    config_tells_size: bool = True


FAMILIES: dict[str, Family] = {
    "sd1": Family(pixels=512, steps=50, guidance_scale=7.5),
    "sd2-base": Family(pixels=512, steps=50, guidance_scale=7.5),
    "sd2-v": Family(pixels=768, steps=50, guidance_scale=7.5),
    "altdiffusion": Family(pixels=512, steps=50, guidance_scale=7.5),
    "lcm": Family(pixels=512, steps=4, guidance_scale=8.5),
    "sdxl": Family(pixels=1024, steps=50, guidance_scale=5.0),
    # Zero-terminal-SNR models start at the last timestep, and are over-exposed without rescaled guidance (Lin et al.
    # 2024, arXiv:2305.08891).
    "sdxl-vpred": Family(
        pixels=1024,
        steps=28,
        guidance_scale=5.0,
        call_kwargs={"guidance_rescale": 0.7},
        scheduler_config={
            "prediction_type": "v_prediction",
            "rescale_betas_zero_snr": True,
            "timestep_spacing": "trailing",
        },
    ),
    # User interfaces ask for "clip skip 2" here: the last layer but one, which diffusers' SDXL takes by itself.
    "pony": Family(pixels=1024, steps=25, guidance_scale=7.0),
    "illustrious": Family(pixels=1024, steps=28, guidance_scale=6.0),
    "playground-v2.5": Family(pixels=1024, steps=50, guidance_scale=3.0),
    "sd3": Family(pixels=1024, steps=28, guidance_scale=7.0),
    "kolors": Family(pixels=1024, steps=25, guidance_scale=6.5),
    "flux1-dev": Family(pixels=1024, steps=28, guidance_scale=3.5),
    "flux1-schnell": Family(pixels=1024, steps=4, guidance_scale=0.0, call_kwargs={"max_sequence_length": 256}),
    "flux2": Family(pixels=1024, steps=50, guidance_scale=4.0),
    "flux2-klein": Family(pixels=1024, steps=4, guidance_scale=1.0),
    "flux2-klein-base": Family(pixels=1024, steps=50, guidance_scale=4.0),
    "chroma": Family(pixels=1024, steps=40, guidance_scale=3.0),
    "pixart-alpha": Family(pixels=1024, steps=20, guidance_scale=4.5, call_kwargs=_NO_BINNING),
    "pixart-sigma": Family(pixels=1024, steps=20, guidance_scale=4.5, call_kwargs=_NO_BINNING),
    "sana": Family(pixels=1024, steps=20, guidance_scale=4.5, call_kwargs=_NO_BINNING),
    "sana-sprint": Family(pixels=1024, steps=2, guidance_scale=4.5, call_kwargs=_NO_BINNING),
    "prx": Family(pixels=512, steps=28, guidance_scale=4.0, call_kwargs=_NO_BINNING),
    "hunyuan-dit": Family(pixels=1024, steps=50, guidance_scale=5.0, call_kwargs=_NO_BINNING),
    "hunyuan-image": Family(pixels=2048, steps=50),
    "auraflow": Family(pixels=1024, steps=50, guidance_scale=3.5, config_tells_size=False),
    # Sampled from repos that hold all four text encoders; the authors' own lack the fourth.
    "hidream": Family(pixels=1024, steps=50, guidance_scale=5.0),
    "hidream-dev": Family(pixels=1024, steps=28, guidance_scale=0.0),
    "hidream-fast": Family(pixels=1024, steps=16, guidance_scale=0.0),
    # Guidance is off unless a negative prompt is passed; a space is the authors' empty one.
    "qwen-image": Family(pixels=1024, steps=50, call_kwargs={"true_cfg_scale": 4.0}, negative_prompt=" "),
    "z-image": Family(pixels=1024, steps=50, guidance_scale=4.0),
    "z-image-turbo": Family(pixels=1024, steps=8, guidance_scale=0.0),
    "lumina-next": Family(pixels=1024, steps=30, guidance_scale=4.0),
    "lumina2": Family(pixels=1024, steps=30, guidance_scale=4.0, call_kwargs={"max_sequence_length": 256}),
    "cogview3": Family(pixels=1024, steps=50, guidance_scale=5.0),
    "cogview4": Family(pixels=1024, steps=50, guidance_scale=5.0),
    "ovis-image": Family(pixels=1024, steps=50, guidance_scale=5.0),
    "longcat-image": Family(pixels=1024, steps=50, guidance_scale=4.5),
    "bria": Family(pixels=1024, steps=30, guidance_scale=5.0),
    "omnigen": Family(pixels=1024, steps=50, guidance_scale=2.5),
    "kandinsky3": Family(pixels=1024, steps=25, guidance_scale=3.0),
    "kandinsky5": Family(pixels=1024, steps=50, guidance_scale=3.5),
    # The first of three stages, which is a pipeline of its own; the two that enlarge its images want an image.
    "deepfloyd-if": Family("PixelDiff", pixels=64, steps=100, guidance_scale=7.0),
    "unclip": Family("PixelDiff", pixels=256),
    "ldm-text": Family(pixels=256, steps=50, guidance_scale=6.0),
    "ldm": Family(pixels=256, steps=50),
    "vq-diffusion": Family(pixels=256, steps=100, guidance_scale=5.0),
    "amused": Family("Other", pixels=512, steps=12, guidance_scale=10.0),
    "dit": Family(pixels=256, steps=50, guidance_scale=4.0),
    "ddpm": Family("PixelDiff", steps=1000),
    "ddim": Family("PixelDiff", steps=50),
    "pndm": Family("PixelDiff", steps=50),
    "score-sde": Family("PixelDiff", steps=2000),
    "karras-ve": Family("PixelDiff", steps=50),
    "consistency": Family("PixelDiff", steps=1),
}
