"""Rows alone are enough to make a batch again, byte for byte."""

import json
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from manifests.generator import GeneratorSpec
from manifests.unit import UnitSpec
from samplers.base import Sampler
from samplers.component_store import ComponentStore
from samplers.registry import load_sampler
from samplers.replay import generator_from_row, replay_batch
from samplers.unit_drawing import draw_unit

PARAMS: dict[str, dict[str, Any]] = {
    "sd": {"guidance_scale": 3.0, "negative_prompt": "dark", "scheduler": "EulerAncestralDiscreteScheduler"},
    "lcm": {"width": 72, "call_kwargs": {"clip_skip": 1}},
    "sdxl": {"call_kwargs": {"original_size": [96, 96], "guidance_rescale": 0.5}},
    "pixart": {},
    "sd3": {"call_kwargs": {"max_sequence_length": 64}},
    "dit": {"guidance_scale": 1.0},
    "ddpm": {"steps": 3},
}


@pytest.mark.parametrize("family", PARAMS)
def test_every_batch_of_a_unit_can_be_made_again(
    family: str,
    load: Callable[[GeneratorSpec], Sampler],
    model_folder: Callable[[str], Path],
    spec_of: Callable[..., GeneratorSpec],
    unit_of: Callable[..., UnitSpec],
    rows_of: Callable[..., list[dict[str, Any]]],
) -> None:
    spec = spec_of(family, **PARAMS[family])
    unit, sampler = unit_of(spec, 5), load(spec)
    rows = rows_of(unit, list(draw_unit(unit, sampler, None)), sampler)
    again = generator_from_row(rows[0])
    assert (again.name, again.kind, again.repo_id, again.revision) == (
        spec.name,
        spec.kind,
        spec.repo_id,
        spec.revision,
    )
    fresh = load_sampler(again, model_folder(family), dtype="bfloat16", device="cpu", components=ComponentStore())
    assert fresh.call_record(2) == rows[0]["call_kwargs"]
    batches = [list(group) for _, group in groupby(rows, key=lambda row: row["batch"])]
    assert [len(batch) for batch in batches] == [2, 2, 1]
    for batch in reversed(batches):
        images = replay_batch(batch[::-1], fresh)
        assert [image and image.sha256 for image in images] == [row["sha256"] for row in batch]


def test_the_record_is_complete(sampler_of: Callable[[str], Sampler]) -> None:
    record = json.loads(sampler_of("sd").call_record(4))
    assert record.keys() == {"pipeline_class", "load", "call", "scheduler", "sources", "batch_size"}
    assert record["pipeline_class"] == "StableDiffusionPipeline" and record["batch_size"] == 4
    assert record["scheduler"]["class"] == "DDIMScheduler" == sampler_of("sd").scheduler_name
    assert record["scheduler"]["config"]["beta_end"] == 0.012
    assert record["load"]["dtype"] == "float32" and record["load"]["vae_decode_dtype"] == "float32"
    assert record["call"]["guidance_scale"] == 7.5 == sampler_of("sd").guidance_scale
    assert sampler_of("sd").steps == 2 and sampler_of("sd").watermark is False


def test_incomplete_batches_are_refused(
    sampler_of: Callable[[str], Sampler],
    spec_of: Callable[..., GeneratorSpec],
    unit_of: Callable[..., UnitSpec],
    rows_of: Callable[..., list[dict[str, Any]]],
) -> None:
    unit, sampler = unit_of(spec_of("ddpm"), 4), sampler_of("ddpm")
    rows = rows_of(unit, list(draw_unit(unit, sampler, None)), sampler)
    with pytest.raises(ValueError, match="exactly one batch"):
        replay_batch(rows, sampler)
    with pytest.raises(ValueError, match="not complete"):
        replay_batch(rows[1:2], sampler)
    with pytest.raises(ValueError, match="never sampled"):
        replay_batch([rows[0] | {"status": "oom"}, rows[1]], sampler)
    with pytest.raises(ValueError, match="exactly one batch"):
        replay_batch([], sampler)
