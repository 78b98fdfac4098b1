"""Make committed images again from nothing but their rows and the generator's files."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from manifests.draws import Draw
from manifests.generator import GeneratorSpec
from samplers.base import Batch, Sampler
from samplers.call_arguments import params_from_record
from samplers.images import EncodedImage, encode
from shards.statuses import Status

_DRAW_COLUMNS = tuple(Draw.model_fields)
_GENERATOR_COLUMNS = (
    "kind",
    "architecture",
    "family",
    "lineage",
    "license",
    "release_date",
    "hf_pipeline_tag",
    "hf_diffusers_tag",
    "subset",
)


def generator_from_row(row: Mapping[str, Any]) -> GeneratorSpec:
    """Rebuild the generator that made a row's image, with the very arguments of its call.

    Its parameters are the recorded ones, defaults included, so a library with other defaults makes the same call.
    """
    record = json.loads(row["call_kwargs"])
    load = record["load"]
    given = {name: row[name] for name in _GENERATOR_COLUMNS if row.get(name) is not None}
    # Rows of an adapter name its base as the repo; what was crawled is the adapter.
    adapter = row.get("adapter_repo")
    repo = (adapter, row["adapter_revision"]) if adapter is not None else (row["repo_id"], row["revision"])
    sources = record.get("sources", {})  # rows of older datasets have none
    params = params_from_record(record["call"], row["scheduler"], row["negative_prompt"], sources)
    return GeneratorSpec.model_validate(
        {
            **given,
            "name": row["generator"],
            "packaging": load.get("packaging", "pipeline"),
            "repo_id": repo[0],
            "revision": repo[1],
            "subfolder": load["subfolder"],
            "variant": load["variant"],
            "dtype": load["dtype"],
            "pipeline_class": record["pipeline_class"],
            "base": load.get("base"),
            "weight_name": load.get("weight_name"),
            "component": load.get("component"),
            "params": params.model_copy(
                update={
                    "scheduler_config": load.get("scheduler_config", {}),
                    "trigger_words": tuple(load.get("trigger_words", ())),
                    "adapter_scale": load.get("adapter", {}).get("scale"),
                }
            ),
        }
    )


def replay_batch(rows: Sequence[Mapping[str, Any]], sampler: Sampler) -> list[EncodedImage | None]:
    """Sample one batch again.

    Args:
        rows: every row of one (unit, generation, batch), in any order.
        sampler: `generator_from_row` of one of them, loaded.

    Returns:
        The images in slot order, None where a value is not a number.

    Raises:
        ValueError: rows of several batches, a gap in the slots, or rows of draws that were never sampled.
        UnitFailure: the model failed.
    """
    rows = sorted(rows, key=lambda row: row["slot"] if row["slot"] is not None else -1)
    if len({(row["unit"], row["generation"], row["batch"]) for row in rows}) != 1:
        raise ValueError("a replay needs the rows of exactly one batch")
    if [row["slot"] for row in rows] != list(range(len(rows))) or any(Status(row["status"]).failed for row in rows):
        raise ValueError(f"batch {rows[0]['batch']} of unit {rows[0]['unit']} is not complete, or was never sampled")
    draws = [_draw(row) for row in rows]
    batch_size = json.loads(rows[0]["call_kwargs"])["batch_size"]
    sampled = sampler.sample(Batch.padded(draws, batch_size))
    return [None if slot.image is None else encode(slot.image) for slot in sampled]


def _draw(row: Mapping[str, Any]) -> Draw:
    given = {name: row[name] for name in _DRAW_COLUMNS if row[name] is not None}
    return Draw.model_validate({"prompt": "", **given})
