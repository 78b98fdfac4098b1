"""The catalog: one row for each crawled hub model, frozen as a snapshot. Each eligible row is a generator spec."""

import json
from typing import Any, Self

import pyarrow as pa
from pydantic import Field, TypeAdapter, field_serializer

from manifests.frozen import FrozenModel
from manifests.generator import BasePipeline, GeneratorSpec, Packaging, SamplingParams, WeightFile

CATALOG_REASONS: dict[str, str] = {
    "ok": "eligible",
    "gated": "access must be granted on the hub first",
    "gone": "the hub lists it or the config names it, but it answers 404",
    "no_model_index": "no model_index.json at the root or in a subfolder, and no other packaging that commforge knows",
    "no_base": "an adapter, component or checkpoint whose base pipeline is unknown, gone, gated or not usable itself",
    "bad_model_index": "model_index.json cannot be read as a pipeline description",
    "pickle_only": "weights only as pickles, and pickles are not allowed",
    "no_weights": "a component that needs weights has none",
    "unsupported_pipeline": "the pipeline's class is not one that commforge can sample",
    "remote_code": "needs code from the repo, and no manifest entry names the repo and revision for it",
    "unavailable": "the hub gave no usable answer after all retries",
    "licence_denied": "left out by the config's licence rule",
    "filtered": "left out by one of the config's other filters",
}
"""The closed list of catalog reasons, each with its meaning."""

CATALOG_SCHEMA = pa.schema(
    [
        pa.field("snapshot", pa.string(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("repo_id", pa.string(), nullable=False),
        pa.field("generator", pa.string(), nullable=False),
        pa.field("revision", pa.string()),
        pa.field("named", pa.bool_(), nullable=False),
        pa.field("eligible", pa.bool_(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string()),
        pa.field("downloads", pa.int64()),
        pa.field("likes", pa.int64()),
        pa.field("author", pa.string()),
        pa.field("created_at", pa.string()),
        pa.field("last_modified", pa.string()),
        pa.field("gated", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("packaging", pa.string()),
        pa.field("pipeline_class", pa.string()),
        pa.field("architecture", pa.string()),
        pa.field("family", pa.string()),
        pa.field("family_evidence", pa.string()),
        pa.field("lineage", pa.string()),
        pa.field("base_model", pa.string()),
        pa.field("license", pa.string()),
        pa.field("hf_pipeline_tag", pa.string()),
        pa.field("hf_diffusers_tag", pa.string()),
        pa.field("subset", pa.string()),
        pa.field("subfolder", pa.string()),
        pa.field("variant", pa.string()),
        pa.field("dtype", pa.string()),
        pa.field("release_date", pa.string()),
        pa.field("steps", pa.int32()),
        pa.field("guidance_scale", pa.float64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("params", pa.string(), nullable=False),
        pa.field("weight_bytes", pa.int64()),
        pa.field("gpu_memory_bytes", pa.int64()),
        pa.field("trigger_words", pa.string()),
        pa.field("weight_name", pa.string()),
        pa.field("component", pa.string()),
        pa.field("base", pa.string()),
        pa.field("files", pa.string(), nullable=False),
    ]
)


_FILES: TypeAdapter[tuple[WeightFile, ...]] = TypeAdapter(tuple[WeightFile, ...])


class CatalogRow(FrozenModel):
    """One crawled model. Ineligible models stay as rows with the reason; `params` and `files` are JSON on disk."""

    snapshot: str = Field(description="id of the crawl that wrote the row")
    rank: int = Field(ge=1, description="place in the hub's order of downloads")
    repo_id: str
    generator: str = Field(description="folder-safe name, see manifests.names.generator_name")
    revision: str | None = Field(default=None, description="pinned commit sha")
    named: bool = Field(default=False, description="the config asked for this model by name")
    eligible: bool
    reason: str = Field(description="one of CATALOG_REASONS")
    detail: str | None = Field(default=None, description="what exactly was found")
    downloads: int | None = None
    likes: int | None = None
    author: str | None = None
    created_at: str | None = None
    last_modified: str | None = None
    gated: str | None = None
    kind: str | None = None
    packaging: Packaging = Field(default="pipeline", description="how the generator lies in its repo")
    pipeline_class: str | None = None
    architecture: str | None = None
    family: str | None = None
    family_evidence: str | None = Field(default=None, description="what the family was told by")
    lineage: str | None = None
    base_model: str | None = None
    license: str | None = None
    hf_pipeline_tag: str | None = None
    hf_diffusers_tag: str | None = None
    subset: str | None = "systematic"
    subfolder: str | None = None
    variant: str | None = None
    dtype: str | None = Field(default=None, description="a manifest's choice; None: the run's")
    release_date: str | None = Field(default=None, description="a manifest's date; None: the day of `created_at`")
    params: SamplingParams = SamplingParams()
    weight_bytes: int | None = Field(default=None, description="bytes that a download would fetch, the base's included")
    gpu_memory_bytes: int | None = Field(
        default=None, description="estimated memory for one image at native size in half precision, nothing offloaded"
    )
    weight_name: str | None = Field(default=None, description="the adapter, checkpoint or embedding chosen of the repo")
    component: str | None = Field(default=None, description="the base's part that the repo replaces")
    base: BasePipeline | None = Field(default=None, description="what any packaging but `pipeline` is loaded into")
    files: tuple[WeightFile, ...] = ()

    @field_serializer("files")
    def _files_record(self, files: tuple[WeightFile, ...]) -> list[dict[str, Any]]:
        return [file.to_record() for file in files]

    @field_serializer("base")
    def _base_record(self, base: BasePipeline | None) -> dict[str, Any] | None:
        return None if base is None else base.to_record()

    def to_record(self) -> dict[str, Any]:
        """Return the row as CATALOG_SCHEMA stores it."""
        record = self.model_dump(exclude={"params", "files", "base"})
        record |= {key: getattr(self.params, key) for key in ("steps", "guidance_scale", "width", "height")}
        record["trigger_words"] = ", ".join(self.params.trigger_words) or None
        record["base"] = json.dumps(self.base.to_record()) if self.base is not None else None
        record["params"] = self.params.model_dump_json()
        record["files"] = json.dumps([file.to_record() for file in self.files])
        return record

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Self:
        """Read a row as CATALOG_SCHEMA stores it."""
        known = cls.model_fields  # a property that is slow to ask for each key
        fields = {key: value for key, value in record.items() if key in known}
        fields["params"] = SamplingParams.model_validate_json(record["params"])
        fields["base"] = BasePipeline.model_validate_json(record["base"]) if record["base"] else None
        fields["files"] = _FILES.validate_json(record["files"])
        return cls.model_validate(fields)

    def to_generator(self) -> GeneratorSpec:
        """Return the generator that this eligible row is.

        Raises:
            ValueError: the row is not eligible; callers choose eligible rows first.
        """
        if not self.eligible:
            raise ValueError(f"{self.repo_id} is not eligible: {self.reason}")
        shared = GeneratorSpec.model_fields.keys() & CatalogRow.model_fields.keys()
        return GeneratorSpec.model_validate(
            {
                **{key: getattr(self, key) for key in shared},
                "name": self.generator,
                "release_date": self.release_date or (self.created_at[:10] if self.created_at else None),
            }
        )
