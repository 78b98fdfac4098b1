"""Rows say where the value of each sampling parameter came from, and a replay says the same."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from manifests.generator import GeneratorSpec, SamplingParams
from manifests.unit import UnitSpec
from samplers.base import Sampler
from samplers.component_store import ComponentStore
from samplers.registry import load_sampler
from samplers.replay import generator_from_row
from samplers.unit_drawing import draw_unit

Specs = Callable[..., GeneratorSpec]
Loader = Callable[..., Sampler]

TOLD = {
    "steps": "card",
    "guidance_scale": "family",
    "negative_prompt": "card",
    "scheduler": "name",
    "scheduler_config": "name",
    "trigger_words": "metadata",
    "clip_skip": "manifest",
}
GIVEN: dict[str, Any] = {
    "steps": 2,
    "guidance_scale": 3.0,
    "negative_prompt": "dark",
    "scheduler": "EulerDiscreteScheduler",
    "scheduler_config": {"timestep_spacing": "trailing"},
    "trigger_words": ("toydoodle",),
    "call_kwargs": {"clip_skip": 1},
}


def _sources(sampler: Sampler) -> dict[str, str]:
    sources: dict[str, str] = json.loads(sampler.call_record(2))["sources"]
    return sources


def test_every_parameter_of_an_adapter_says_who_told_it(packaged_spec: Specs, load_packaged: Loader) -> None:
    told = _sources(load_packaged(packaged_spec("lora", **GIVEN, sources=TOLD)))
    assert told == TOLD | {"width": "signature", "height": "signature", "adapter_scale": "default"}
    scaled = packaged_spec("lora", adapter_scale=0.5, sources={"adapter_scale": "base card"})
    assert _sources(load_packaged(scaled))["adapter_scale"] == "base card"


def test_what_nobody_said_is_the_pipelines_own(spec_of: Specs, load: Loader) -> None:
    """And what was said without a source is not given one."""
    spec = spec_of("pixart").model_copy(update={"params": SamplingParams(steps=2)})
    told = _sources(load(spec))
    assert told == {
        "guidance_scale": "signature",
        "width": "signature",
        "height": "signature",
        "scheduler": "config",
        "use_resolution_binning": "commforge",
        "clean_caption": "commforge",
    }


def test_what_the_call_does_not_take_has_no_source(spec_of: Specs, load: Loader) -> None:
    told = {"guidance_scale": "card", "width": "config", "negative_prompt": "card", "steps": "family"}
    spec = spec_of("ddpm", steps=2, guidance_scale=3.0, width=64, negative_prompt="dark", sources=told)
    assert _sources(load(spec)) == {"steps": "family", "scheduler": "config"}


@pytest.mark.parametrize("name", ["lora", "unet-only", "single-file", "textual-inversion"])
def test_a_base_brings_its_own_scheduler(name: str, packaged_spec: Specs, load_packaged: Loader) -> None:
    assert _sources(load_packaged(packaged_spec(name)))["scheduler"] == "base config"


def test_a_replay_says_the_same(
    spec_of: Specs,
    load: Loader,
    model_folder: Callable[[str], Path],
    unit_of: Callable[..., UnitSpec],
    rows_of: Callable[..., list[dict[str, Any]]],
) -> None:
    given = GIVEN | {"trigger_words": ()}
    spec = spec_of("sd", **given, sources={key: TOLD[key] for key in TOLD if key != "trigger_words"})
    unit, sampler = unit_of(spec, 1), load(spec)
    (row,) = rows_of(unit, list(draw_unit(unit, sampler, None)), sampler)
    again = generator_from_row(row)
    fresh = load_sampler(again, model_folder("sd"), dtype="float32", device="cpu", components=ComponentStore())
    assert fresh.call_record(2) == row["call_kwargs"] and _sources(fresh)["clip_skip"] == "manifest"
    record = json.loads(row["call_kwargs"])
    del record["sources"]  # as in rows of older datasets
    assert generator_from_row(row | {"call_kwargs": json.dumps(record)}).params.sources == {}


def test_where_a_value_came_from_changes_no_image(
    spec_of: Specs, load: Loader, unit_of: Callable[..., UnitSpec]
) -> None:
    spec = spec_of("sd")
    other = spec.model_copy(update={"params": spec.params.model_copy(update={"sources": {"steps": "card"}})})
    drawn = [[image.sha256 for image in draw_unit(unit_of(one, 2), load(one), None)] for one in (spec, other)]
    assert drawn[0] == drawn[1]
