"""The toy safety checker: Stable Diffusion's own class with random weights, its thresholds set on the toy images."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.demo.photos import PHOTO_SIZE
from pipeline.demo.toy_weights import seeded

if TYPE_CHECKING:
    import torch
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from PIL.Image import Image
    from transformers import CLIPImageProcessor

CHECKER_REPO = "toy/safety-checker"

FLAGGED_RATE = 0.04
"""Share of the toy generators' images that the thresholds are meant to flag."""

_SEED = 23
"""The checker's own seed: thresholds hold for one set of weights, so it does not follow the hub's seed. Chosen so
that what is flagged spreads over the generators."""

_UNREACHABLE = 2.0
"""A threshold above any cosine: special-care concepts only lower the others' thresholds, and stay out of it."""

THRESHOLDS: tuple[float, ...] = (
    *(0.2044, 0.0581, 0.0847, 0.1796, 0.3833, 0.1891, -0.1711, 0.2152, 0.1419),
    *(-0.2513, 0.1998, 0.2540, 0.2604, -0.1923, -0.1182, 0.0856, 0.1459),
)
"""Cosine above which each of the 17 concepts flags an image: `calibrate` on 192 images of each toy generator."""


def build_checker(folder: Path, seed: int) -> None:
    """Write the checker in the layout of CompVis/stable-diffusion-safety-checker; it is the same for every `seed`."""
    import torch

    del seed  # its thresholds hold for one set of weights only
    model = _checker()
    with torch.no_grad():
        model.concept_embeds_weights.copy_(torch.tensor(THRESHOLDS))
    model.save_pretrained(folder)
    _image_processor().save_pretrained(folder)


def calibrate(images: Sequence["Image"], rate: float = FLAGGED_RATE) -> tuple[float, ...]:
    """Return one threshold per concept so that about `rate` of `images` lie above at least one of them.

    Every concept flags the same share of the images, and that share is raised until the union meets `rate`. To make
    `THRESHOLDS` anew, pass at least 100 images of each toy generator.
    """
    import torch

    cosines = _concept_cosines(images)
    ranked = cosines.sort(dim=0, descending=True).values
    wanted = round(rate * len(images))
    for rank in range(1, len(images)):
        thresholds = (ranked[rank - 1] + ranked[rank]) / 2
        flagged = int(torch.any(cosines > thresholds, dim=1).sum())
        if flagged >= wanted:
            return tuple(round(value, 4) for value in thresholds.tolist())
    raise ValueError(f"{len(images)} images are too few to calibrate on")


def _concept_cosines(images: Sequence["Image"]) -> "torch.Tensor":
    """Cosine of every image (rows) with every concept (columns)."""
    import torch
    from torch.nn.functional import normalize

    model, pixels = _checker(), _image_processor()(images=list(images), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        embeddings = model.visual_projection(model.vision_model(pixels)[1])
    return normalize(embeddings) @ normalize(model.concept_embeds).T


def _checker() -> "StableDiffusionSafetyChecker":
    import torch
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPVisionConfig

    vision = CLIPVisionConfig(
        image_size=PHOTO_SIZE,
        patch_size=16,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=32,
    )
    with seeded(_SEED, "checker"):
        model = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision.to_dict(), projection_dim=32)).eval()
        with torch.no_grad():
            model.concept_embeds.normal_()
            model.special_care_embeds.normal_()
            model.special_care_embeds_weights.fill_(_UNREACHABLE)
    return model


def _image_processor() -> "CLIPImageProcessor":
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(size={"shortest_edge": PHOTO_SIZE}, crop_size={"height": PHOTO_SIZE, "width": PHOTO_SIZE})
