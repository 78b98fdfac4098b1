"""Which family a pipeline is of, and by what that is told."""

from typing import Any

import pytest

from crawlers.parameters.families import FAMILIES
from crawlers.parameters.family_evidence import identify_family
from crawlers.recognition.model_index import parse_model_index
from crawlers.recognition.pipeline_classes import PIPELINE_CLASSES

VAE = {"vae": ["diffusers", "AutoencoderKL"]}


CASES: list[tuple[str, dict[str, Any], list[str], str, str, str]] = [
    ("StableDiffusionPipeline", {"unet": {"cross_attention_dim": 768}}, [], "sd1", "LatentDiff", "768"),
    ("StableDiffusionPipeline", {"unet": {"cross_attention_dim": 1024}}, [], "sd2-base", "LatentDiff", "epsilon"),
    (
        "StableDiffusionPipeline",
        {"unet": {"cross_attention_dim": 1024}, "scheduler": {"prediction_type": "v_prediction"}},
        ["x/sdxl"],
        "sd2-v",
        "LatentDiff",
        "v_prediction",
    ),
    ("StableDiffusionXLPipeline", {}, [], "sdxl", "LatentDiff", "class"),
    (
        "StableDiffusionXLPipeline",
        {"scheduler": {"prediction_type": "v_prediction"}},
        ["x/noobai"],
        "sdxl-vpred",
        "LatentDiff",
        "v_prediction",
    ),
    ("StableDiffusionXLPipeline", {}, ["x/y", "AstraliteHeart/pony-v6"], "pony", "LatentDiff", "pony"),
    ("StableDiffusionXLPipeline", {}, ["x/Illustrious-XL"], "illustrious", "LatentDiff", "illustrious"),
    (
        "StableDiffusionXLPipeline",
        {"scheduler": {"_class_name": "EDMDPMSolverMultistepScheduler"}},
        [],
        "playground-v2.5",
        "LatentDiff",
        "EDM",
    ),
    ("FluxPipeline", {"transformer": {"guidance_embeds": True}}, ["x/schnell"], "flux1-dev", "LatentDiff", "true"),
    ("FluxPipeline", {"transformer": {"guidance_embeds": False}}, [], "flux1-schnell", "LatentDiff", "false"),
    ("ZImagePipeline", {}, ["x/Z-Image-Turbo"], "z-image-turbo", "LatentDiff", "turbo"),
    ("HiDreamImagePipeline", {}, ["x/HiDream-I1-Fast"], "hidream-fast", "LatentDiff", "fast"),
    ("HiDreamImagePipeline", {}, ["x/HiDream-I1-Dev"], "hidream-dev", "LatentDiff", "dev"),
    ("DiTPipeline", {}, [], "dit", "LatentDiff", "class DiTPipeline"),
    ("LatentConsistencyModelPipeline", {}, [], "lcm", "LatentDiff", "class"),
]


@pytest.mark.parametrize(("pipeline", "configs", "names", "family", "architecture", "told"), CASES)
def test_families(
    pipeline: str, configs: dict[str, Any], names: list[str], family: str, architecture: str, told: str
) -> None:
    match = identify_family(parse_model_index({"_class_name": pipeline, **VAE}), configs, names)
    assert (match.family, match.architecture) == (family, architecture)
    assert told in match.evidence


def test_pixels_or_latents_are_told_by_the_components() -> None:
    pixels = identify_family(parse_model_index({"_class_name": "DDPMPipeline", "unet": ["diffusers", "U"]}), {})
    assert (pixels.kind, pixels.architecture) == ("unconditional", "PixelDiff")
    latents = identify_family(
        parse_model_index({"_class_name": "DDIMPipeline", "unet": ["diffusers", "U"], "vqvae": ["diffusers", "VQ"]}), {}
    )
    assert latents.architecture == "LatentDiff"
    assert "vqvae" in latents.evidence


def test_klein_is_told_apart_by_its_model_index() -> None:
    for distilled, family in ((True, "flux2-klein"), (False, "flux2-klein-base")):
        index = parse_model_index({"_class_name": "Flux2KleinPipeline", **VAE, "is_distilled": distilled})
        assert identify_family(index, {}).family == family


def test_every_row_of_the_table_belongs_to_a_pipeline_that_can_be_sampled() -> None:
    of_a_class = {entry.family for entry in PIPELINE_CLASSES.values()}
    refined = {family for _, _, _, family, _, _ in CASES} | {"flux2-klein"}
    assert of_a_class | refined == FAMILIES.keys()
