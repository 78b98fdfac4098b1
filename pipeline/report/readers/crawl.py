"""The catalog as the report shows it: how many models, why some were left out, and how each would be sampled."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from manifests.catalog import CATALOG_REASONS
from manifests.errors import InputError
from manifests.generator import SamplingParams
from pipeline.report.facts import Count, Crawl, Model, Parameter
from pipeline.report.readers.components import read_components
from pipeline.report.readers.hub import model_page

MODEL_ROWS = 4000
"""Most models that the page's table lists; the catalog may hold a million."""

_COLUMNS = [
    "snapshot", "rank", "repo_id", "generator", "revision", "eligible", "reason", "detail", "named", "family",
    "family_evidence", "pipeline_class", "license", "downloads", "weight_bytes", "params",
]  # fmt: skip


def read_crawl(catalog: Path, endpoint: str | None) -> Crawl:
    """Read a catalog. `endpoint` is the hub's address, for links; models of a hub on this machine get none.

    Raises:
        InputError: the file is no catalog.
    """
    table = _read(catalog)
    models = [_model(record, endpoint) for record in table.slice(0, MODEL_ROWS).to_pylist()]
    eligible = table.filter(table["eligible"])
    generators = {record["generator"]: _model(record, endpoint) for record in eligible.sort_by("generator").to_pylist()}
    return Crawl(
        snapshots=tuple(sorted(set(table["snapshot"].to_pylist()))),
        crawled=table.num_rows,
        eligible=eligible.num_rows,
        reasons=_reasons(table),
        licences=_licences(table),
        models=tuple(models),
        generators=generators,
        components=read_components(catalog),
    )


def _read(catalog: Path) -> pa.Table:
    try:
        missing = [name for name in _COLUMNS if name not in pq.read_schema(catalog).names]
        if missing:
            raise InputError(f"{catalog}: not a catalog: column {missing[0]!r} is missing")
        table = pq.read_table(catalog, columns=_COLUMNS)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{catalog}: not a catalog that can be read: {error}") from error
    # among the first rows of a long catalog, the models that were used come before those that were not
    if table.num_rows > MODEL_ROWS:
        return table.sort_by(
            [("eligible", "descending"), ("named", "descending"), ("rank", "ascending"), ("repo_id", "ascending")]
        )
    return table.sort_by([("rank", "ascending"), ("repo_id", "ascending")])


def _model(record: Mapping[str, Any], endpoint: str | None) -> Model:
    reason = record["reason"]
    return Model(
        rank=record["rank"],
        repo_id=record["repo_id"],
        generator=record["generator"],
        revision=record["revision"],
        link=model_page(record["repo_id"], endpoint),
        eligible=record["eligible"],
        reason=reason,
        meaning=CATALOG_REASONS.get(reason, ""),
        detail=record["detail"],
        named=record["named"],
        family=record["family"],
        family_evidence=_evidence(record["family_evidence"], record["pipeline_class"]),
        pipeline_class=record["pipeline_class"],
        license=record["license"],
        downloads=record["downloads"],
        weight_bytes=record["weight_bytes"],
        parameters=_parameters(record["params"], record["repo_id"]),
    )


def _parameters(params: str, repo_id: str) -> tuple[Parameter, ...]:
    try:
        resolved = SamplingParams.model_validate_json(params)
    except ValidationError as error:
        raise InputError(f"catalog row {repo_id!r}: column 'params' cannot be read: {error}") from error
    values = {
        "steps": resolved.steps,
        "guidance": None if resolved.guidance_scale is None else f"{resolved.guidance_scale:g}",
        "size": f"{resolved.width}×{resolved.height}" if resolved.width and resolved.height else None,
        "scheduler": resolved.scheduler,
        "negative prompt": resolved.negative_prompt,
        "trigger words": ", ".join(resolved.trigger_words) or None,
        "adapter scale": None if resolved.adapter_scale is None else f"{resolved.adapter_scale:g}",
    }
    keys = {"guidance": "guidance_scale", "size": "width"}
    shown = [
        Parameter(name, str(value), resolved.sources.get(keys.get(name, name.replace(" ", "_")), ""))
        for name, value in values.items()
        if value is not None
    ]
    extra = [
        Parameter(name, str(value), resolved.sources.get(name, ""))
        for name, value in sorted(resolved.call_kwargs.items())
    ]
    return (*shown, *extra)


def _evidence(evidence: str | None, pipeline_class: str | None) -> str | None:
    """What told the family; the pipeline class stands above it in the table already."""
    return evidence.replace(f"class {pipeline_class}", "its class") if evidence and pipeline_class else evidence


def _reasons(table: pa.Table) -> tuple[Count, ...]:
    counts = _counts(table, "reason", "unknown")
    return tuple(Count(count.name, count.value, CATALOG_REASONS.get(count.name, "")) for count in counts)


def _counts(table: pa.Table, column: str, absent: str) -> tuple[Count, ...]:
    """How often each value occurs, most frequent first."""
    values = pc.value_counts(pc.fill_null(table[column], absent)).to_pylist()
    ordered = sorted(values, key=lambda entry: (-entry["counts"], entry["values"]))
    return tuple(Count(entry["values"], entry["counts"]) for entry in ordered)


def _licences(table: pa.Table) -> dict[str, tuple[int, int]]:
    everything = {count.name: count.value for count in _counts(table, "license", "not stated")}
    eligible = {count.name: count.value for count in _counts(table.filter(table["eligible"]), "license", "not stated")}
    return {name: (value, eligible.get(name, 0)) for name, value in everything.items()}
