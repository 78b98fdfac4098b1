"""How a stranger's model is called: every source, their order, every distilled name, every family."""

import inspect
import math
from typing import Any

import pytest

from crawlers.parameters.families import FAMILIES
from crawlers.parameters.family_evidence import identify_family
from crawlers.parameters.native_resolution import native_resolution
from crawlers.parameters.resolution import AdapterEvidence, ParameterEvidence, resolve_parameters
from crawlers.parameters.scheduler_entries import TAKEN_BY
from crawlers.recognition.model_index import parse_model_index
from crawlers.recognition.pipeline_classes import ALL_ARGUMENTS, PIPELINE_CLASSES
from manifests.generator import SamplingParams

LEADING = {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading"}
SDXL = {"unet": {"sample_size": 128}, "vae": {"block_out_channels": [1, 2, 3, 4]}, "scheduler": LEADING}


def resolve(family: str, repo_id: str = "owner/model", **evidence: Any) -> SamplingParams:
    return resolve_parameters(ParameterEvidence(family, repo_id, **evidence))


def test_each_source_wins_over_the_next() -> None:
    """Peel the sources off one by one, best first, and see the next one take over."""
    manifest = SamplingParams(
        steps=11,
        guidance_scale=1.5,
        width=640,
        height=704,
        negative_prompt="no",
        scheduler="DDIMScheduler",
        scheduler_config={"timestep_spacing": "linspace"},
        trigger_words=("mine",),
        adapter_scale=0.5,
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
        "scheduler_config": "name",
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


TRAILING = {"timestep_spacing": "trailing"}


@pytest.mark.parametrize(
    ("name", "scheduler", "config"),
    [
        ("sdxl-lightning-4step", LEADING, TRAILING),
        ("sdxl-lightning-4step", {"_class_name": "EulerDiscreteScheduler"}, TRAILING),
        ("sdxl-lightning-4step", LEADING | TRAILING, {}),
        ("sdxl-lightning-4step", {"_class_name": "DDIMScheduler"}, TRAILING),  # replaced by Euler
        ("sdxl-turbo", {"_class_name": "EulerAncestralDiscreteScheduler", "timestep_spacing": "leading"}, TRAILING),
        ("sdxl-turbo", {"_class_name": "EulerAncestralDiscreteScheduler"} | TRAILING, {}),
        ("sdxl-turbo", {"_class_name": "FlowMatchEulerDiscreteScheduler"}, {}),  # has no such entry
        ("sdxl-turbo", {}, {}),
        ("sdxl-dmd2", LEADING, {}),
        ("lcm-sdxl", LEADING, {}),
    ],
)
def test_distilled_models_start_from_the_last_timestep(
    name: str, scheduler: dict[str, Any], config: dict[str, Any]
) -> None:
    params = resolve("sdxl", f"x/{name}", configs={"scheduler": scheduler})
    assert params.scheduler_config == config
    assert params.sources.get("scheduler_config") == ("name" if config else None)
    assert "timesteps" not in params.call_kwargs


def test_the_entries_make_the_scheduler_start_there() -> None:
    """Every scheduler has the entries that it is given, and with trailing spacing four steps begin at 999."""
    import diffusers

    for entry, names in TAKEN_BY.items():
        for name in names:
            assert entry in inspect.signature(getattr(diffusers, name).__init__).parameters, (entry, name)
    for name in sorted(
        TAKEN_BY["timestep_spacing"] - {"LCMScheduler", "TCDScheduler"}
    ):  # these have grids of their own
        scheduler = getattr(diffusers, name).from_config({"beta_schedule": "scaled_linear", **TRAILING})
        assert scheduler.config.timestep_spacing == "trailing", name
        if name != "PNDMScheduler":  # it takes its first steps on its own grid
            scheduler.set_timesteps(4)
            assert int(scheduler.timesteps[0]) == 999, name


def test_a_scheduler_that_the_user_chose_is_left_as_it_is() -> None:
    for chosen, config in (("DDIMScheduler", {}), ("EulerDiscreteScheduler", TRAILING)):
        manifest = SamplingParams(scheduler=chosen)
        params = resolve("sdxl", "x/sdxl-lightning-4step", configs=SDXL, manifest=manifest)
        assert (params.scheduler, params.scheduler_config) == (chosen, config)


@pytest.mark.parametrize(
    ("family", "repo_id", "file", "readme", "expected"),
    [
        # repo, file -> steps, guidance, scheduler, scheduler_config, call_kwargs, adapter_scale
        ("sd1", "x/lcm-lora-sdv1-5", "pytorch_lora_weights", "", (4, 1.0, "LCMScheduler", {}, {}, None)),
        ("pony", "x/lcm-lora-sdxl", "pytorch_lora_weights", "", (4, 1.0, "LCMScheduler", {}, {}, None)),
        ("sdxl", "x/TCD-SDXL-LoRA", "pytorch_lora_weights", "", (4, 0.0, "TCDScheduler", {}, {"eta": 0.3}, None)),
        ("sdxl", "x/DMD2", "dmd2_sdxl_4step_lora", "", (4, 0.0, "LCMScheduler", {}, {}, None)),
        ("sdxl", "x/Hyper-SD", "Hyper-SDXL-2steps-lora", "", (2, 0.0, "EulerDiscreteScheduler", TRAILING, {}, None)),
        ("sd1", "x/Hyper-SD", "Hyper-SD15-8steps-lora", "", (8, 0.0, "EulerDiscreteScheduler", TRAILING, {}, None)),
        ("flux1-dev", "x/Hyper-SD", "Hyper-FLUX.1-dev-16steps-lora", "", (16, 3.5, None, {}, {}, 0.125)),
        (
            "sdxl",
            "x/SDXL-Lightning",
            "sdxl_lightning_8step_lora",
            "",
            (8, 0.0, "EulerDiscreteScheduler", TRAILING, {}, None),
        ),
        (
            "flux1-dev",
            "x/FLUX.1-Turbo-Alpha",
            "diffusion_pytorch_model",
            "pipe(guidance_scale=3.5, num_inference_steps=8)",
            (8, 3.5, None, {}, {}, None),
        ),
        (
            "qwen-image",
            "x/Qwen-Image-Lightning",
            "Qwen-Image-Lightning-4steps-V1.0",
            "",
            (
                4,
                None,
                None,
                {"base_shift": math.log(3), "max_shift": math.log(3), "shift_terminal": None},
                {"true_cfg_scale": 1.0},
                None,
            ),
        ),
    ],
)
def test_acceleration_adapters(
    family: str, repo_id: str, file: str, readme: str, expected: tuple[int, float, str | None, Any, Any, Any]
) -> None:
    """A base's card that asks for 30 steps is overruled by the adapter that makes it a model of few."""
    adapter = AdapterEvidence(
        "lora",
        f"{file}.safetensors",
        readme,
        base_id="some/base",
        base_card={"inference": {"parameters": {"num_inference_steps": 30, "guidance_scale": 9.0, "width": 768}}},
    )
    takes = PIPELINE_CLASSES["QwenImagePipeline"].takes if family == "qwen-image" else ALL_ARGUMENTS
    own = LEADING if family in ("sd1", "sdxl", "pony") else {"_class_name": "FlowMatchEulerDiscreteScheduler"}
    configs = {"scheduler": own}
    params = resolve(family, repo_id, adapter=adapter, takes=takes, configs=configs)
    scheduler = None if expected[2] == own["_class_name"] else expected[2]
    call_kwargs = {key: value for key, value in params.call_kwargs.items() if key not in FAMILIES[family].call_kwargs}
    call_kwargs |= {key: params.call_kwargs[key] for key in expected[4]}
    assert (params.steps, params.guidance_scale, params.scheduler) == (expected[0], expected[1], scheduler)
    assert (params.scheduler_config, call_kwargs, params.adapter_scale) == expected[3:]
    told = {"steps", "guidance_scale", "scheduler", "scheduler_config", "adapter_scale", *expected[4]}
    assert {params.sources[key] for key in told & params.sources.keys()} == {"name"}
    assert (params.width, params.sources["width"]) == (768, "base card")


@pytest.mark.parametrize(
    ("repo_id", "file", "readme"),
    [
        ("x/porsche-911-turbo", "porsche", ""),
        ("x/lightning-magic-xl", "lightning_magic_v2", ""),
        ("x/hyper-detailed", "hyper", "image = pipe(num_inference_steps=30)"),
        ("x/turbo-cars", "cars", "num_inference_steps=4 ... num_inference_steps=8"),  # no one number
        ("lcm/portraits", "portraits", ""),
        ("x/portraits", "portraits-000004", ""),
    ],
)
def test_styles_that_are_called_like_a_distillation(repo_id: str, file: str, readme: str) -> None:
    adapter = AdapterEvidence("lora", f"{file}.safetensors", readme, base_id="some/base")
    params = resolve("sdxl", repo_id, adapter=adapter, configs=SDXL)
    assert (params.steps, params.sources["steps"], params.scheduler) == (50, "family", None)


def test_an_adapter_on_a_distilled_base_is_sampled_as_the_base() -> None:
    adapter = AdapterEvidence("lora", "style.safetensors", base_id="x/sdxl-turbo", base_card={})
    params = resolve("sdxl", "me/style", adapter=adapter, configs=SDXL)
    assert (params.steps, params.guidance_scale, params.scheduler_config) == (4, 0.0, TRAILING)
    assert {params.sources[key] for key in ("steps", "guidance_scale", "scheduler_config")} == {"base name"}
    # Learned tokens neither change how a model is sampled nor are believed to.
    tokens = AdapterEvidence("textual-inversion", "lcm.safetensors", base_id="x/base")
    assert resolve("sd1", "me/lcm-2steps", adapter=tokens).steps == 50


def test_a_component_that_takes_guidance_as_an_embedding() -> None:
    adapter = AdapterEvidence("component", base_id="x/sdxl")
    for embedded, guidance in (({"time_cond_proj_dim": 256}, 8.5), ({"time_cond_proj_dim": None}, 1.0)):
        params = resolve("sdxl", "x/lcm-sdxl", adapter=adapter, configs={**SDXL, "unet": embedded})
        assert (params.steps, params.guidance_scale, params.scheduler) == (4, guidance, "LCMScheduler")


def test_trigger_words_and_scale_and_who_told_them() -> None:
    words = (("toycrayon",), "metadata")
    card = {"inference": {"parameters": {"cross_attention_kwargs": {"scale": 0.7}}}}
    base_card = {"inference": {"parameters": {"lora_scale": 0.2}}}
    adapter = AdapterEvidence("lora", "a.safetensors", trigger_words=words, base_id="x/b", base_card=base_card)
    params = resolve("sd1", adapter=adapter, card=card)
    assert (params.trigger_words, params.adapter_scale) == (("toycrayon",), 0.7)
    assert (params.sources["trigger_words"], params.sources["adapter_scale"]) == ("metadata", "card")
    assert resolve("sd1", adapter=adapter).adapter_scale is None
    assert resolve("sd1", card=card).adapter_scale is None  # a pipeline has none
    manifest = SamplingParams(trigger_words=("other",), adapter_scale=1.2)
    params = resolve("sd1", adapter=adapter, card=card, manifest=manifest)
    assert (params.trigger_words, params.adapter_scale) == (("other",), 1.2)
    assert params.sources["trigger_words"] == params.sources["adapter_scale"] == "manifest"


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
    assert params == SamplingParams(steps=20, sources={"steps": "card"})
    manifest = SamplingParams(guidance_scale=2.0, call_kwargs={"eta": 0.5})
    params = resolve("ddpm", takes=takes, configs=configs, manifest=manifest)
    assert params.guidance_scale == 2.0
    assert params.call_kwargs == {"eta": 0.5}
    assert params.sources == {"steps": "family", "guidance_scale": "manifest", "eta": "manifest"}


def test_every_value_has_a_source_in_every_family() -> None:
    for family in FAMILIES:
        params = resolve(family)
        values = params.model_dump(exclude={"sources", "call_kwargs"})
        named = {key for key, value in values.items() if value not in (None, (), {})}
        assert set(params.sources) == named | set(params.call_kwargs), family


@pytest.mark.parametrize(
    ("family", "pixels", "steps", "guidance", "call_kwargs"),
    [
        ("sd1", 512, 50, 7.5, {}),
        ("sd2-base", 512, 50, 7.5, {}),
        ("sd2-v", 768, 50, 7.5, {}),
        ("sdxl", 1024, 50, 5.0, {}),
        ("sdxl-vpred", 1024, 28, 5.0, {"guidance_rescale": 0.7}),
        ("pony", 1024, 25, 7.0, {}),
        ("illustrious", 1024, 28, 6.0, {}),
        ("lcm", 512, 4, 8.5, {}),
        ("playground-v2.5", 1024, 50, 3.0, {}),
        ("sd3", 1024, 28, 7.0, {}),
        ("flux1-dev", 1024, 28, 3.5, {}),
        ("flux1-schnell", 1024, 4, 0.0, {"max_sequence_length": 256}),
        ("flux2-klein", 1024, 4, 1.0, {}),
        ("flux2-klein-base", 1024, 50, 4.0, {}),
        ("chroma", 1024, 40, 3.0, {}),
        ("pixart-alpha", 1024, 20, 4.5, {"use_resolution_binning": False}),
        ("pixart-sigma", 1024, 20, 4.5, {"use_resolution_binning": False}),
        ("sana", 1024, 20, 4.5, {"use_resolution_binning": False}),
        ("sana-sprint", 1024, 2, 4.5, {"use_resolution_binning": False}),
        ("kolors", 1024, 25, 6.5, {}),
        ("kandinsky2", 768, 100, 4.0, {"prior_num_inference_steps": 25, "prior_guidance_scale": 4.0}),
        ("kandinsky3", 1024, 25, 3.0, {}),
        (
            "stable-cascade",
            1024,
            10,
            None,
            {"prior_num_inference_steps": 20, "prior_guidance_scale": 4.0, "decoder_guidance_scale": 0.0},
        ),
        (
            "wuerstchen",
            1024,
            12,
            None,
            {"prior_num_inference_steps": 60, "prior_guidance_scale": 8.0, "decoder_guidance_scale": 0.0},
        ),
        ("deepfloyd-if", 64, 100, 7.0, {}),
        ("auraflow", 1024, 50, 3.5, {}),
        ("hidream", 1024, 50, 5.0, {}),
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
    euler = {"scheduler": {"_class_name": "EulerDiscreteScheduler"}}
    assert bool(resolve(family, configs=euler).scheduler_config) == (family == "sdxl-vpred")


def test_v_prediction_of_sdxl_needs_its_schedule() -> None:
    """Zero-terminal-SNR and trailing spacing, wherever the repo's own scheduler config does not speak of them."""
    wanted = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    for name in ("EulerDiscreteScheduler", "DDIMScheduler"):
        assert resolve("sdxl-vpred", configs={"scheduler": {"_class_name": name}}).scheduler_config == wanted
    # A scheduler that cannot do it would refuse the entry.
    heun = resolve("sdxl-vpred", configs={"scheduler": {"_class_name": "HeunDiscreteScheduler"}})
    assert "rescale_betas_zero_snr" not in heun.scheduler_config
    own = {"_class_name": "EulerDiscreteScheduler", "prediction_type": "v_prediction", "timestep_spacing": "leading"}
    params = resolve("sdxl-vpred", configs={"scheduler": own})
    assert params.scheduler_config == {"rescale_betas_zero_snr": True}
    assert params.sources["scheduler_config"] == "family"


@pytest.mark.parametrize(
    ("family", "name", "sample_size", "blocks", "expected"),
    [
        ("sdxl", "stabilityai/sdxl-turbo", 64, 4, (512, 4, 0.0)),
        ("sd2-base", "stabilityai/sd-turbo", 64, 4, (512, 4, 0.0)),
        ("pixart-alpha", "x/PixArt-XL-2-512x512", 64, 4, (512, 20, 4.5)),
        ("sd2-v", "x/sd2", 96, 4, (768, 50, 7.5)),
        ("kolors", "Kwai-Kolors/Kolors-diffusers", 128, 4, (1024, 25, 6.5)),
    ],
)
def test_the_size_that_a_config_tells_wins_over_the_table(
    family: str, name: str, sample_size: int, blocks: int, expected: tuple[int, int, float]
) -> None:
    part = "transformer" if family.startswith("pixart") else "unet"
    configs = {part: {"sample_size": sample_size}, "vae": {"block_out_channels": [1] * blocks}}
    params = resolve(family, name, configs=configs)
    assert (params.width, params.steps, params.guidance_scale) == expected


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
