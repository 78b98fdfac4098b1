"""How a stranger's model is called: every source of a value, their order, and what is left out."""

from typing import Any

import pytest

from crawlers.parameters.resolution import AdapterEvidence, ParameterEvidence, resolve_parameters
from crawlers.recognition.pipeline_classes import PIPELINE_CLASSES
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
