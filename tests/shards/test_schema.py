"""The columns, their documentation, and the promise that neither changes alone."""

import re
from pathlib import Path

import pyarrow as pa

from shards.findings import Kind
from shards.image_formats import IMAGE_FORMATS
from shards.schema import COLUMNS, ROW_SCHEMA, empty_row
from shards.statuses import Reason, Status

DOC = (Path(__file__).parents[2] / "docs" / "dataset-format.md").read_text()

DESIGNED = """
image_id, label, status, reason, unit, generation, batch, slot, index, generator, kind, architecture, family, lineage,
release_date, repo_id, revision, adapter_repo, adapter_revision, license, hf_pipeline_tag, hf_diffusers_tag, subset,
split, content, class_label, real_source, source_image_id, prompt, prompt_sent, truncated, prompt_id, prompt_source,
negative_prompt, seed, steps, guidance_scale, scheduler, width, height, format, mode, call_kwargs, sha256, phash,
nsfw_flag, nsfw_score, checker_revision, watermark, file, offset, length, environment
"""


def _table(header: str) -> list[list[str]]:
    lines = DOC.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(header)) + 2
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_columns_are_the_designed_ones_in_order() -> None:
    assert ROW_SCHEMA.names == re.findall(r"\w+", DESIGNED)


def test_types() -> None:
    others = {
        pa.int8(): {"label"},
        pa.int32(): {"generation", "batch", "slot", "steps", "width", "height"},
        pa.int64(): {"index", "seed", "offset", "length"},
        pa.float64(): {"guidance_scale", "nsfw_score"},
        pa.bool_(): {"truncated", "nsfw_flag", "watermark"},
    }
    for type_, names in others.items():
        assert {field.name for field in ROW_SCHEMA if field.type == type_} == names
    assert sum(field.type == pa.string() for field in ROW_SCHEMA) == 53 - sum(map(len, others.values()))


def test_the_document_gives_every_column_as_the_schema_has_it() -> None:
    assert _table("| column |") == [
        [f"`{c.name}`", c.type, c.unit, c.source, "yes" if c.required else "", c.description] for c in COLUMNS
    ]


def test_the_document_gives_every_reason_with_its_status_and_retry() -> None:
    documented = {
        (reason, status.strip("`"), retry)
        for status, reasons, retry in _table("| status |")
        for reason in re.findall(r"`(\w+)`", reasons)
    }
    spelled = {"retry": "yes", "never": "never", "after_credentials": "after credentials"}
    assert documented == {(str(reason), str(reason.status), spelled[reason.retry]) for reason in Reason}
    assert {status for _, status, _ in documented} == set(Status)


def test_the_document_names_every_finding_and_image_format() -> None:
    assert set(re.findall(r"`(\w+)`", DOC[DOC.index("## What `verify` reports") :])) == {"verify", *Kind}
    for known in IMAGE_FORMATS.values():
        assert re.search(rf"{known.name} `{known.extension}`", " ".join(DOC.split()))


def test_empty_row_has_every_column_and_says_nothing() -> None:
    assert list(empty_row()) == ROW_SCHEMA.names
    assert {name for name, value in empty_row().items() if value is not None} == {"generation"}
