"""A run of thousands of generators that has sampled nothing yet: its configuration, catalog and prompt table."""

from pathlib import Path
from typing import Any

IMAGES = 403
UNIT_IMAGES = 64
PROMPTS = 20_000
WORKERS = 64


def prepare(folder: Path, generators: int) -> None:
    """Write run.yaml, the catalog and the prompt table of a run that has sampled nothing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from captioning.prompt_table import append_prompts
    from manifests.catalog import CATALOG_SCHEMA, CatalogRow
    from manifests.prompts import Prompt
    from manifests.yaml_text import dump_yaml

    folder.mkdir(parents=True)
    config = {
        "name": "scale",
        "output": str(folder),
        "sample": {
            "images_per_generator": IMAGES,
            "unit_images": UNIT_IMAGES,
            "checker": {"repo_id": "owner/checker", "revision": "c" * 40},
        },
        "execute": {"workers": WORKERS},
    }
    (folder / "run.yaml").write_text(dump_yaml(config), encoding="utf-8")
    with pq.ParquetWriter(folder / "catalog.parquet", CATALOG_SCHEMA) as writer:
        for start in range(0, generators, 1000):
            records = [
                CatalogRow.model_validate(_model(number)).to_record()
                for number in range(start, min(start + 1000, generators))
            ]
            writer.write_table(pa.Table.from_pylist(records, schema=CATALOG_SCHEMA))
    append_prompts(
        folder / "prompts.parquet",
        (
            Prompt(
                prompt_id=f"{number:032x}",
                prompt=f"a photograph, number {number}, of a street in the rain with a dog and two people under a tree",
                prompt_source="caption",
                real_source="photos",
                source_image_id=f"{number:032x}",
                photograph=f"{number:032x}",
                split="test" if number % 5 == 0 else "train",
            )
            for number in range(PROMPTS)
        ),
    )


def _model(number: int) -> dict[str, Any]:
    """A catalog row with as many weight files as a common latent-diffusion pipeline has."""
    parts = ("text_encoder", "text_encoder_2", "unet", "vae")
    files = [
        {"path": f"{part}/model-{shard}.safetensors", "size": 10**9, "sha256": f"{number * 8 + shard:064x}"}
        for part in parts
        for shard in range(2)
    ]
    return {
        "snapshot": "2026-01-01",
        "rank": number + 1,
        "repo_id": f"owner{number % 997}/model-{number}",
        "generator": f"owner{number % 997}--model-{number}",
        "revision": f"{number:040x}",
        "eligible": True,
        "reason": "ok",
        "kind": "text-to-image",
        "pipeline_class": "StableDiffusionXLPipeline",
        "architecture": "LatentDiff",
        "family": f"family-{number % 30}",
        "lineage": f"base/{number // 20}",
        "params": {"steps": 30, "guidance_scale": 5.0, "width": 1024, "height": 1024, "sources": {"steps": "family"}},
        "files": files,
    }
