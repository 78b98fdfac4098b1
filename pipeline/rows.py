"""From a draw to a row of the dataset: the one place that knows which column comes from where."""

from typing import Any

from manifests.draws import Draw
from manifests.unit import UnitSpec
from shards.identifiers import image_id
from shards.schema import empty_row
from shards.statuses import Reason


def generated_row(
    unit: UnitSpec, generation: int, draw: Draw, *, batch: int, slot: int, reason: Reason
) -> dict[str, Any]:
    """Return the row of a draw as far as the plan knows it; a worker adds what sampling showed."""
    generator = unit.generator
    # An adapter is nothing without its base, so the row names both; other packagings are models of their own.
    adapts = generator.base if generator.packaging in ("lora", "textual-inversion") else None
    return empty_row() | {
        "image_id": image_id(generator.name, generator.revision, draw.prompt_id, draw.index),
        "label": 1,
        "status": reason.status,
        "reason": reason,
        "unit": unit.unit,
        "generation": generation,
        "batch": batch,
        "slot": slot,
        "index": draw.index,
        "generator": generator.name,
        "kind": generator.kind,
        "architecture": generator.architecture,
        "family": generator.family,
        "lineage": generator.lineage,
        "release_date": generator.release_date,
        "repo_id": adapts.repo_id if adapts else generator.repo_id,
        "revision": adapts.revision if adapts else generator.revision,
        "adapter_repo": generator.repo_id if adapts else None,
        "adapter_revision": generator.revision if adapts else None,
        "license": generator.license,
        "hf_pipeline_tag": generator.hf_pipeline_tag,
        "hf_diffusers_tag": generator.hf_diffusers_tag,
        "subset": generator.subset,
        "split": unit.split,
        "content": draw.content,
        "class_label": draw.class_label,
        "real_source": draw.real_source,
        "source_image_id": draw.source_image_id,
        "prompt": draw.prompt if generator.kind == "text-to-image" else None,
        "prompt_id": draw.prompt_id,
        "prompt_source": draw.prompt_source,
        "seed": draw.seed,
    }
