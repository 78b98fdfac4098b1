"""How a stranger's model is called: every source, their order, every distilled name, every family."""

from typing import Any

import pytest

from crawlers.families import FAMILIES
from crawlers.family_evidence import identify_family
from crawlers.model_index import parse_model_index
from crawlers.native_resolution import native_resolution
from crawlers.parameters import ParameterEvidence, resolve_parameters, trailing_timesteps
from crawlers.pipeline_classes import PIPELINE_CLASSES
from manifests.generator import SamplingParams

LEADING = {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading"}
SDXL = {"unet": {"sample_size": 128}, "vae": {"block_out_channels": [1, 2, 3, 4]}, "scheduler": LEADING}


def resolve(family: str, repo_id: str = "owner/model", **evidence: Any) -> SamplingParams:
    return resolve_parameters(ParameterEvidence(family, repo_id, **evidence))


def test_each_source_wins_over_the_next() -> None:
    """Peel the sources off one by one, best first, and see the next one take over."""
    manifest = SamplingParams(
        steps=11, guidance_scale=1.5, width=640, height=704, negative_prompt="no", scheduler="DDIMScheduler"
    )
    card = {
        "inference": {
            "parameters": {
                "num_inference_steps": 6,
                "guidance_scale": 2,
                "width": 768,
                "height": 512,
                "negative_prompt": "ugly",
            }
        }
    }
    configs = {**SDXL, "scheduler": {"_class_name": "LCMScheduler"}}
    name = "owner/sdxl-lightning-2step"

    params = resolve("sdxl", name, manifest=manifest, card=card, configs=configs)
    assert params.model_dump(include=set(SamplingParams.model_fields) - {"sources", "call_kwargs"}) == (
        manifest.model_dump(include=set(SamplingParams.model_fields) - {"sources", "call_kwargs"})
    )
    assert set(params.sources.values()) == {"manifest"}

    params = resolve("sdxl", name, card=card, configs=configs)
    assert (params.steps, params.guidance_scale, params.width, params.height) == (6, 2.0, 768, 512)
    assert params.negative_prompt == "ugly"
    assert params.sources == {
        "steps": "card",
        "guidance_scale": "card",
        "width": "card",
        "height": "card",
        "negative_prompt": "card",
        "scheduler": "name",
        "timesteps": "name",
    }

    params = resolve("sdxl", name, configs=configs)
    assert (params.steps, params.guidance_scale, params.scheduler) == (2, 0.0, "EulerDiscreteScheduler")
    assert params.sources["steps"] == "name"

    params = resolve("sdxl", "owner/model", configs=configs)
    assert (params.steps, params.guidance_scale, params.width, params.scheduler) == (4, 1.0, 1024, None)
    assert params.sources == {"steps": "config", "guidance_scale": "config", "width": "config", "height": "config"}

    params = resolve("sdxl")
    assert (params.steps, params.guidance_scale, params.width) == (50, 5.0, 1024)
    assert set(params.sources.values()) == {"family"}

    params = resolve("unclip", takes=PIPELINE_CLASSES["UnCLIPPipeline"].takes)
    assert params == SamplingParams()  # the call's own signature


@pytest.mark.parametrize(
    ("family", "name", "files", "steps", "guidance", "scheduler"),
    [
        ("sdxl", "x/SDXL-Lightning-4step", [], 4, 0.0, None),
        ("sdxl", "x/SDXL-Lightning", ["sdxl_lightning_8step_unet.safetensors"], 8, 0.0, None),
        ("sdxl", "x/SDXL-Lightning", ["a_2step.safetensors", "a_8step.safetensors"], 4, 0.0, None),
        ("pony", "x/pony-lightning-6-steps", [], 6, 0.0, None),
        ("sdxl", "x/Hyper-SDXL-8steps", [], 8, 0.0, None),
        ("sd1", "x/hyper-sd15-1step", [], 1, 0.0, "EulerDiscreteScheduler"),
        ("sdxl", "x/sdxl-dmd2", [], 4, 0.0, "LCMScheduler"),
        ("sdxl", "x/dmd2-1step", [], 1, 0.0, "LCMScheduler"),
        ("sd1", "x/dreamshaper-7-lcm", [], 4, 1.0, "LCMScheduler"),
        ("sdxl", "x/lcm_sdxl", [], 4, 1.0, "LCMScheduler"),
        ("sdxl", "x/sdxl-turbo", [], 4, 0.0, None),
        ("sd2-base", "x/sd-turbo", [], 4, 0.0, None),
        ("sdxl", "x/dreamshaper-xl-v2-turbo", [], 4, 0.0, None),
        ("sd3", "x/stable-diffusion-3.5-large-turbo", [], 4, 0.0, None),
        ("z-image-turbo", "x/Z-Image-Turbo", [], 8, 0.0, None),
        ("flux1-schnell", "x/FLUX.1-schnell", [], 4, 0.0, None),
    ],
)
def test_distilled_names(
    family: str, name: str, files: list[str], steps: int, guidance: float, scheduler: str | None
) -> None:
    own = {"sd1": {"_class_name": "PNDMScheduler"}}.get(family, LEADING)
    params = resolve(family, name, configs={"scheduler": own}, file_names=files)
    assert (params.steps, params.guidance_scale, params.scheduler) == (steps, guidance, scheduler)
    assert params.sources["steps"] == params.sources["guidance_scale"] == "name"


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("sdxl", "lightning/sdxl-base"),  # the owner's name says nothing
        ("sdxl", "x/turbocharged"),
        ("sdxl", "x/hyperrealism-xl"),
        ("sdxl", "x/lightninghawk"),
        ("kolors", "x/kolors-lightning"),  # no such distillation of this family
        ("dit", "x/dit-turbo"),
        ("sdxl", "x/sdxl-20step-portraits"),
    ],
)
def test_names_that_only_look_distilled(family: str, name: str) -> None:
    params = resolve(family, name)
    assert params.sources["steps"] == "family"
    assert params.steps == FAMILIES[family].steps


@pytest.mark.parametrize(
    ("scheduler", "timesteps"),
    [
        (LEADING, [999, 749, 499, 249]),
        ({"_class_name": "EulerDiscreteScheduler"}, [999, 749, 499, 249]),
        ({"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}, None),
        # Its own sigmas forbid timesteps: the scheduler would refuse the call.
        ({**LEADING, "use_karras_sigmas": True}, None),
    ],
)
def test_distilled_models_start_from_the_last_timestep(scheduler: dict[str, Any], timesteps: list[int] | None) -> None:
    params = resolve("sdxl", "x/sdxl-lightning-4step", configs={"scheduler": scheduler})
    assert params.call_kwargs == ({"timesteps": timesteps} if timesteps else {})


def test_timesteps_follow_the_number_of_steps_that_wins() -> None:
    for evidence in (
        {"manifest": SamplingParams(steps=2)},
        {"card": {"inference": {"parameters": {"num_inference_steps": 2}}}},
    ):
        params = resolve("sdxl", "x/sdxl-lightning-4step", configs=SDXL, **evidence)
        assert (params.steps, params.call_kwargs["timesteps"]) == (2, [999, 499])
    params = resolve("sdxl", "x/sdxl-lightning-4step", configs=SDXL, manifest=SamplingParams(scheduler="DDIMScheduler"))
    assert "timesteps" not in params.call_kwargs


def test_trailing_timesteps_are_those_of_the_scheduler() -> None:
    from diffusers import EulerDiscreteScheduler

    scheduler = EulerDiscreteScheduler(timestep_spacing="trailing")
    for steps in (1, 2, 3, 4, 6, 7, 8, 16, 28, 30, 48, 50, 999, 1000):
        scheduler.set_timesteps(steps)
        assert trailing_timesteps(steps) == scheduler.timesteps.tolist(), steps
    # Passed as a call argument they make a scheduler with another spacing take the same steps.
    other = EulerDiscreteScheduler(timestep_spacing="leading")
    other.set_timesteps(timesteps=trailing_timesteps(4))
    scheduler.set_timesteps(4)
    assert other.sigmas.tolist() == scheduler.sigmas.tolist()


@pytest.mark.parametrize(
    "inference",
    [
        False,
        {"parameters": None},
        {"parameters": {"num_inference_steps": "25", "guidance_scale": None, "width": 12.5, "height": 1000.0 + 1}},
        {"parameters": {"num_inference_steps": 0, "guidance_scale": float("nan"), "width": 10**9, "height": -8}},
        {"parameters": {"num_inference_steps": True, "negative_prompt": ["a"]}},
    ],
)
def test_a_card_that_says_nothing_usable_is_passed_over(inference: Any) -> None:
    assert resolve("sd1", card={"inference": inference}) == resolve("sd1")


def test_arguments_that_the_call_does_not_take_are_left_out_unless_the_manifest_says_so() -> None:
    takes = PIPELINE_CLASSES["DDPMPipeline"].takes
    card = {"inference": {"parameters": {"num_inference_steps": 20, "guidance_scale": 3, "width": 64}}}
    configs = {"unet": {"sample_size": 32}}
    params = resolve("ddpm", takes=takes, card=card, configs=configs)
    assert params.model_dump(exclude_none=True) == {"steps": 20, "call_kwargs": {}, "sources": {"steps": "card"}}
    manifest = SamplingParams(guidance_scale=2.0, call_kwargs={"eta": 0.5})
    params = resolve("ddpm", takes=takes, configs=configs, manifest=manifest)
    assert params.guidance_scale == 2.0
    assert params.call_kwargs == {"eta": 0.5}
    assert params.sources == {"steps": "family", "guidance_scale": "manifest", "eta": "manifest"}


def test_every_value_has_a_source_in_every_family() -> None:
    for family in FAMILIES:
        params = resolve(family)
        named = {k for k, v in params.model_dump(exclude={"sources", "call_kwargs"}).items() if v is not None}
        assert set(params.sources) == named | set(params.call_kwargs), family


@pytest.mark.parametrize(
    ("family", "pixels", "steps", "guidance", "call_kwargs"),
    [
        ("sd1", 512, 50, 7.5, {}),
        ("sd2-base", 512, 50, 7.5, {}),
        ("sd2-v", 768, 50, 7.5, {}),
        ("sdxl", 1024, 50, 5.0, {}),
        ("sdxl-vpred", 1024, 28, 5.0, {"guidance_rescale": 0.7}),
        ("lcm", 512, 4, 8.5, {}),
        ("playground-v2.5", 1024, 50, 3.0, {}),
        ("sd3", 1024, 28, 7.0, {}),
        ("flux1-dev", 1024, 28, 3.5, {}),
        ("flux1-schnell", 1024, 4, 0.0, {"max_sequence_length": 256}),
        ("flux2-klein", 1024, 4, 1.0, {}),
        ("flux2-klein-base", 1024, 50, 4.0, {}),
        ("chroma", 1024, 40, 3.0, {}),
        ("pixart-sigma", 1024, 20, 4.5, {"use_resolution_binning": False}),
        ("sana", 1024, 20, 4.5, {"use_resolution_binning": False}),
        ("sana-sprint", 1024, 2, 4.5, {"use_resolution_binning": False}),
        ("kolors", 1024, 25, 6.5, {}),
        ("kandinsky3", 1024, 25, 3.0, {}),
        ("deepfloyd-if", 64, 100, 7.0, {}),
        ("auraflow", 1024, 50, 3.5, {}),
        ("hidream-dev", 1024, 28, 0.0, {}),
        ("hidream-fast", 1024, 16, 0.0, {}),
        ("qwen-image", 1024, 50, None, {"true_cfg_scale": 4.0}),
        ("z-image", 1024, 50, 4.0, {}),
        ("z-image-turbo", 1024, 8, 0.0, {}),
        ("lumina2", 1024, 30, 4.0, {"max_sequence_length": 256}),
        ("cogview4", 1024, 50, 5.0, {}),
        ("dit", 256, 50, 4.0, {}),
        ("ddpm", None, 1000, None, {}),
    ],
)
def test_the_family_table(
    family: str, pixels: int | None, steps: int, guidance: float | None, call_kwargs: dict[str, Any]
) -> None:
    params = resolve(family)
    assert (params.width, params.height, params.steps, params.guidance_scale) == (pixels, pixels, steps, guidance)
    assert params.call_kwargs == call_kwargs
    assert params.negative_prompt == (" " if family == "qwen-image" else None)


@pytest.mark.parametrize(
    ("configs", "size"),
    [
        ({"unet": {"sample_size": 64}, "vae": {"block_out_channels": [1, 1, 1, 1]}}, (512, 512)),
        ({"unet": {"sample_size": 8}, "vae": {"block_out_channels": [1, 1]}}, (16, 16)),
        ({"unet": {"sample_size": [96, 64]}, "vae": {"block_out_channels": [1] * 4}}, (512, 768)),
        ({"transformer": {"sample_size": 32}, "vae": {"encoder_block_out_channels": [1] * 6}}, (1024, 1024)),
        ({"transformer": {"sample_size": 16}, "vae": {"temperal_downsample": [0, 1, 1]}}, (128, 128)),
        ({"unet": {"sample_size": 32}, "vqvae": {"block_out_channels": [1, 1, 1]}}, (128, 128)),
        ({"unet": {"sample_size": 64}}, (64, 64)),  # pixels
        ({"transformer": {"in_channels": 64}, "vae": {"block_out_channels": [1] * 4}}, None),  # FLUX does not say
        ({"unet": {"sample_size": 64}, "vae": {}}, None),
        ({"unet": {"sample_size": "64"}}, None),
        ({"unet": {"sample_size": 8192}, "vae": {"block_out_channels": [1] * 4}}, None),
        ({}, None),
    ],
)
def test_native_resolution(configs: dict[str, Any], size: tuple[int, int] | None) -> None:
    assert native_resolution(configs) == size


def test_a_config_that_misleads_does_not_tell_the_size() -> None:
    configs = {"transformer": {"sample_size": 64}, "vae": {"block_out_channels": [1] * 4}}
    params = resolve("auraflow", configs=configs)
    assert (params.width, params.sources["width"]) == (1024, "family")


VAE = {"vae": ["diffusers", "AutoencoderKL"]}


@pytest.mark.parametrize(
    ("pipeline", "configs", "names", "family", "architecture", "told"),
    [
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
        ("DiTPipeline", {}, [], "dit", "LatentDiff", "class DiTPipeline"),
        ("LatentConsistencyModelPipeline", {}, [], "lcm", "LatentDiff", "class"),
    ],
)
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
