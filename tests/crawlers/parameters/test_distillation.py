"""Models of few steps, by their names and their adapters', and what is only called like one."""

import inspect
import math
from typing import Any

import pytest

from crawlers.parameters.families import FAMILIES
from crawlers.parameters.resolution import AdapterEvidence, ParameterEvidence, resolve_parameters
from crawlers.parameters.scheduler_entries import TAKEN_BY
from crawlers.recognition.pipeline_classes import ALL_ARGUMENTS, PIPELINE_CLASSES
from manifests.generator import SamplingParams

LEADING = {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading"}


TRAILING = {"timestep_spacing": "trailing"}


SDXL = {"unet": {"sample_size": 128}, "vae": {"block_out_channels": [1, 2, 3, 4]}, "scheduler": LEADING}


def resolve(family: str, repo_id: str = "owner/model", **evidence: Any) -> SamplingParams:
    return resolve_parameters(ParameterEvidence(family, repo_id, **evidence))


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
