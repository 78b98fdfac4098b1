"""Which arguments reach a pipeline's call, and that the record makes the same call again."""

import json
from typing import Any

import diffusers
import pytest

from manifests.generator import SamplingParams
from samplers.call_arguments import bind_arguments, params_from_record
from shards.statuses import Reason, UnitFailure

PROMPTS = frozenset({"prompt", "negative_prompt"})
CLASSES = {
    "StableDiffusionPipeline": PROMPTS,
    "StableDiffusionXLPipeline": PROMPTS,
    "StableDiffusion3Pipeline": PROMPTS,
    "PixArtSigmaPipeline": PROMPTS,
    "FluxPipeline": PROMPTS,
    "SanaPipeline": PROMPTS,
    "QwenImagePipeline": PROMPTS,
    "LatentConsistencyModelPipeline": PROMPTS,
    "DiTPipeline": frozenset({"class_labels"}),
    "DDPMPipeline": frozenset({"batch_size"}),
}


def _call(name: str) -> Any:
    return getattr(diffusers, name).__call__


@pytest.mark.parametrize("name", CLASSES)
def test_a_record_read_back_makes_the_same_call(name: str) -> None:
    params = SamplingParams(steps=7, guidance_scale=2.5, width=64, height=96)
    first = bind_arguments(_call(name), params, CLASSES[name] | {"self"})
    record = json.loads(json.dumps(first.complete))
    back = params_from_record(record, None, None, {})
    second = bind_arguments(_call(name), back, CLASSES[name] | {"self"})
    assert (second.given, second.complete) == (first.given, first.complete)
    assert first.given["num_inference_steps"] == 7


def test_the_record_holds_defaults_and_nothing_of_ours() -> None:
    complete = bind_arguments(_call("StableDiffusionPipeline"), SamplingParams(), PROMPTS | {"self"}).complete
    assert complete["num_inference_steps"] == 50
    assert complete["guidance_scale"] == 7.5
    assert complete["eta"] == 0.0
    assert not complete.keys() & {"prompt", "negative_prompt", "generator", "latents", "output_type", "return_dict"}


def test_hidden_resampling_and_prompt_rewriting_are_off_and_recorded() -> None:
    bound = bind_arguments(_call("PixArtSigmaPipeline"), SamplingParams(), PROMPTS | {"self"})
    assert bound.given == {"use_resolution_binning": False, "clean_caption": False}
    assert bound.complete["use_resolution_binning"] is False
    asked = SamplingParams(call_kwargs={"clean_caption": True})
    assert bind_arguments(_call("PixArtSigmaPipeline"), asked, PROMPTS | {"self"}).complete["clean_caption"] is True


def test_parameters_that_a_family_does_not_have_are_left_out() -> None:
    params = SamplingParams(steps=3, guidance_scale=4, width=64)
    assert bind_arguments(_call("DDPMPipeline"), params, frozenset({"self"})).given == {"num_inference_steps": 3}


def test_tuples_of_a_manifest_arrive_as_tuples() -> None:
    asked = SamplingParams(call_kwargs={"original_size": [64, 64], "crops_coords_top_left": [0, 8]})
    given = bind_arguments(_call("StableDiffusionXLPipeline"), asked, PROMPTS | {"self"}).given
    assert given == {"original_size": (64, 64), "crops_coords_top_left": (0, 8)}


@pytest.mark.parametrize("name", ["no_such_argument", "latents", "generator", "output_type", "prompt", "kwargs"])
def test_a_request_that_cannot_be_met_is_refused(name: str) -> None:
    with pytest.raises(UnitFailure, match=name) as failure:
        bind_arguments(_call("StableDiffusionPipeline"), SamplingParams(call_kwargs={name: 1}), PROMPTS | {"self"})
    assert failure.value.reason is Reason.call_signature


def test_a_call_that_needs_more_is_refused() -> None:
    def upscale(prompt: str, image: object, *, generator: object = None) -> None: ...

    with pytest.raises(UnitFailure, match="image") as failure:
        bind_arguments(upscale, SamplingParams(), PROMPTS)
    assert failure.value.reason is Reason.call_signature
