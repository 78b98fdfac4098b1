"""The columns of a row: one row per draw, made or not. This list is the format; everything else derives from it.

A row holds no clock, host, path of a machine or free text about the run: those belong to the commit, so that equal
content gives an equal file. `docs/dataset-format.md` repeats this table for readers, and a test keeps the two equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its Arrow type, the unit of its values, who sets it, and what it says.

    `required` columns are never null. `source` is one of: plan (known before sampling), catalog (what the crawl
    recorded of the generator), prompt (the prompt table or real source), sampler, checker, writer (`shards.writer`).
    """

    name: str
    type: str
    unit: str
    source: str
    description: str
    required: bool = False


COLUMNS: tuple[Column, ...] = (
    Column("image_id", "string", "32 hex digits", "plan",
           "128-bit blake2b of (generator, revision, prompt_id, index); of the source bytes for a real image", True),
    Column("label", "int8", "0 or 1", "plan", "1 fake, 0 real", True),
    Column("status", "string", "closed list", "sampler", "what became of the draw: `shards.statuses.Status`", True),
    Column("reason", "string", "closed list", "sampler", "why: `shards.statuses.Reason`; it fixes the status", True),
    Column("unit", "string", "hex digits", "plan", "id of the unit of work: hash of all that affects its bytes", True),
    Column("generation", "int32", "count from 0", "plan", "attempt at the unit; the highest committed one wins", True),
    Column("batch", "int32", "count from 0", "sampler", "batch within the unit; null for real images"),
    Column("slot", "int32", "count from 0", "sampler", "place within the batch; null for real images"),
    Column("index", "int64", "draw number", "plan",
           "number within the generator; -(first + r + 1) for reserve draw r of the unit that starts at first", True),
    Column("generator", "string", "name", "plan", "name of the generator; of the real source for a real image", True),
    Column("kind", "string", "name", "plan", "text-to-image, class-conditional, unconditional, real, ...", True),
    Column("architecture", "string", "name", "catalog", "LatentDiff, PixelDiff, GAN, AR, Commercial or Other"),
    Column("family", "string", "name", "catalog", "generators that share an architecture and a way of being sampled"),
    Column("lineage", "string", "name", "catalog", "root base model; splits go by it"),
    Column("release_date", "string", "ISO 8601 date", "catalog", "when the generator was published"),
    Column("repo_id", "string", "owner/name", "catalog", "hub repo of the generator, or of the base of an adapter"),
    Column("revision", "string", "commit hash", "catalog", "pinned revision of repo_id"),
    Column("adapter_repo", "string", "owner/name", "catalog", "hub repo of the adapter (LoRA), when there is one"),
    Column("adapter_revision", "string", "commit hash", "catalog", "pinned revision of adapter_repo"),
    Column("license", "string", "licence id", "catalog", "licence of the generator, or of the real source"),
    Column("hf_pipeline_tag", "string", "hub tag", "catalog", "the hub's pipeline tag of the repo"),
    Column("hf_diffusers_tag", "string", "hub tag", "catalog", "the hub's diffusers:CLASS tag of the repo"),
    Column("subset", "string", "name", "catalog", "part of the dataset: systematic, manual, commercial, ..."),
    Column("split", "string", "name", "plan", "train, val, test, ...; null when not assigned"),
    Column("content", "string", "name", "prompt", "what is shown: photos, paintings, faces, ..."),
    Column("class_label", "string", "name", "prompt", "class that was asked for, or class of the real image"),
    Column("real_source", "string", "name", "prompt", "real source of the prompt, or of the real image"),
    Column("source_image_id", "string", "32 hex digits", "prompt",
           "image_id of the real image that the prompt came from; pairs.parquet is made from it"),
    Column("prompt", "string", "text", "prompt", "the prompt as planned; the caption of a real image"),
    Column("prompt_sent", "string", "text", "sampler", "the prompt as the text encoder saw it, after truncation"),
    Column("truncated", "bool", "true or false", "sampler", "whether the tokenizer cut the prompt"),
    Column("prompt_id", "string", "hex digits", "prompt", "id of the prompt in the prompt table"),
    Column("prompt_source", "string", "name", "prompt", "dataset, blip, class_label, template, ..."),
    Column("negative_prompt", "string", "text", "catalog", "negative prompt, when one was sent"),
    Column("seed", "int64", "63-bit integer", "plan", "seed of the draw's own noise generator"),
    Column("steps", "int32", "count", "sampler", "denoising steps"),
    Column("guidance_scale", "float64", "factor", "sampler", "classifier-free guidance scale"),
    Column("scheduler", "string", "class name", "sampler", "scheduler class that ran"),
    Column("width", "int32", "pixels", "sampler", "width of the image; null when there is none"),
    Column("height", "int32", "pixels", "sampler", "height of the image; null when there is none"),
    Column("format", "string", "Pillow format", "sampler", "encoding of the image: PNG, JPEG, ..."),
    Column("mode", "string", "Pillow mode", "sampler", "pixel mode of the image: RGB, L, RGBA, ..."),
    Column("call_kwargs", "string", "JSON object", "sampler",
           "pipeline class, load options, every call argument, scheduler class and config, batch size"),
    Column("sha256", "string", "64 hex digits", "writer", "SHA-256 of the image's bytes, stored or not"),
    Column("phash", "string", "hex digits", "sampler", "perceptual hash of the pixels, for near-duplicates"),
    Column("nsfw_flag", "bool", "true or false", "checker", "whether the checker flagged it; null when none ran"),
    Column("nsfw_score", "float64", "checker's scale", "checker", "the checker's highest concept score"),
    Column("checker_revision", "string", "repo@revision", "checker", "the safety checker that gave flag and score"),
    Column("watermark", "bool", "true or false", "sampler", "whether the pixels hold a watermark; null when unknown"),
    Column("file", "string", "path in DATASET", "writer", "tar that holds the image; null when no bytes are stored"),
    Column("offset", "int64", "bytes", "writer", "where the image's bytes start inside the tar"),
    Column("length", "int64", "bytes", "writer", "how many bytes the image has"),
    Column("environment", "string", "id", "sampler", "what byte equality depends on: device, threads, dtype, versions"),
)  # fmt: skip

BY_NAME: dict[str, Column] = {column.name: column for column in COLUMNS}

_ARROW = {
    "string": pa.string(),
    "int8": pa.int8(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
}

ROW_SCHEMA: pa.Schema = pa.schema([(column.name, _ARROW[column.type]) for column in COLUMNS])
"""The Arrow schema of every rows file and of index/rows.parquet. Every field is nullable to Arrow; the writer enforces
`Column.required`."""


def empty_row() -> dict[str, Any]:
    """A row with every column: null, except generation 0."""
    return {column.name: None for column in COLUMNS} | {"generation": 0}
