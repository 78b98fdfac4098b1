"""Rows alone are enough to make any generator's batch again, however its repo packs it."""

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
from samplers.replay import generator_from_row, replay_batch
from samplers.unit_drawing import draw_unit

Specs = Callable[..., GeneratorSpec]
Loader = Callable[..., Sampler]
Rows = Callable[..., list[dict[str, Any]]]

PARAMS: dict[str, dict[str, Any]] = {
    "lora": {"adapter_scale": 0.8, "negative_prompt": "dark", "scheduler": "EulerDiscreteScheduler"},
    "kohya-lora": {"scheduler_config": {"timestep_spacing": "trailing"}},
    "lcm-lora": {},
    "unet-only": {"guidance_scale": 3.0},
    "single-file": {"trigger_words": ("studio photo",)},
    "textual-inversion": {},
}


@pytest.mark.parametrize("name", PARAMS)
def test_every_batch_can_be_made_again(
    name: str, packaged_spec: Specs, load_packaged: Loader, unit_of: Callable[..., UnitSpec], rows_of: Rows
) -> None:
    spec = packaged_spec(name, **PARAMS[name])
    unit, sampler = unit_of(spec, 3), load_packaged(spec, ComponentStore())
    rows = [json.loads(json.dumps(row)) for row in rows_of(unit, list(draw_unit(unit, sampler, None)), sampler)]
    assert {row["status"] for row in rows} == {"ok"}
    again = generator_from_row(rows[0])
    for field in ("name", "packaging", "repo_id", "revision", "base", "component"):
        assert getattr(again, field) == getattr(spec, field), field
    for field in ("scheduler_config", "trigger_words", "steps"):
        assert getattr(again.params, field) == getattr(spec.params, field), field
    assert again.params.adapter_scale == (spec.params.adapter_scale or (1.0 if "lora" in name else None))
    fresh = load_packaged(again, ComponentStore())
    assert fresh.call_record(2) == rows[0]["call_kwargs"]
    batches = [list(group) for _, group in groupby(rows, key=lambda row: row["batch"])]
    assert [len(batch) for batch in batches] == [2, 1]
    for batch in reversed(batches):
        images = replay_batch(batch, fresh)
        assert [image and image.sha256 for image in images] == [row["sha256"] for row in batch]


def test_adapters_name_their_base_in_the_row(
    packaged_spec: Specs, load_packaged: Loader, unit_of: Callable[..., UnitSpec], rows_of: Rows
) -> None:
    spec = packaged_spec("lora")
    unit, sampler = unit_of(spec, 1), load_packaged(spec)
    (row,) = rows_of(unit, list(draw_unit(unit, sampler, None)), sampler)
    assert (row["repo_id"], row["revision"]) == ("toy/sd", "0" * 40)
    assert (row["adapter_repo"], row["adapter_revision"]) == ("toy/lora", "1" * 40)
    load = json.loads(row["call_kwargs"])["load"]
    assert load["base"] == {
        "repo_id": "toy/sd",
        "revision": "0" * 40,
        "subfolder": None,
        "variant": None,
        "pipeline_class": None,
    }


def test_a_halved_batch_is_replayed_as_it_was_sampled(
    packaged_spec: Specs, load_packaged: Loader, unit_of: Callable[..., UnitSpec], rows_of: Rows
) -> None:
    spec = packaged_spec("lora")
    unit, sampler = unit_of(spec, 3, batch_size=4), load_packaged(spec)
    halved = list(draw_unit(unit, sampler, None, batch_size=2))
    rows = rows_of(unit.model_copy(update={"batch_size": 2}), halved, sampler)
    assert json.loads(rows[0]["call_kwargs"])["batch_size"] == 2 and [row["batch"] for row in rows] == [0, 0, 1]
    fresh: Any = load_packaged(generator_from_row(rows[0]))
    sizes = []
    fresh._pipeline.unet.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    replayed = [image.sha256 for image in replay_batch(rows[:2], fresh) + replay_batch(rows[2:], fresh) if image]
    assert replayed == [row["sha256"] for row in rows]
    assert set(sizes) == {2 * 2}  # both batches, the padded one too; with and without the prompt, for guidance


def test_rows_of_older_datasets_are_of_whole_pipelines(
    spec_of: Specs,
    load: Callable[[GeneratorSpec], Sampler],
    unit_of: Callable[..., UnitSpec],
    rows_of: Rows,
    tmp_path: Path,
) -> None:
    unit, sampler = unit_of(spec_of("ddpm"), 1), load(spec_of("ddpm"))
    (row,) = rows_of(unit, list(draw_unit(unit, sampler, None)), sampler)
    record = json.loads(row["call_kwargs"])
    for key in ("packaging", "offload", "compiled"):
        record["load"].pop(key)
    again = generator_from_row(row | {"call_kwargs": json.dumps(record)})
    assert again.packaging == "pipeline" and again.base is None and again.repo_id == "toy/ddpm"
