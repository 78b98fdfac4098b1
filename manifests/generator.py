"""What a generator is: everything a sampler needs to know to make its images, and what the dataset says of it."""

from typing import Any, Literal

from pydantic import Field

from manifests.frozen import FrozenModel
from manifests.names import Slug

GeneratorKind = Literal["text-to-image", "class-conditional", "unconditional"]
Packaging = Literal["pipeline", "lora", "component", "single-file", "textual-inversion"]
"""How a generator lies in its repo: a whole pipeline, weights that change a base's (lora), one component that takes the
place of a base's own, a checkpoint in one file, or learned tokens for a base's text encoder."""
Architecture = Literal["LatentDiff", "PixelDiff", "GAN", "AR", "Commercial", "Other"]
Dtype = Literal["float32", "float16", "bfloat16"]


class SamplingParams(FrozenModel):
    """How to call a generator, and where each value came from.

    A field left None is not passed to the pipeline: its own default applies.
    """

    steps: int | None = Field(default=None, ge=1, le=5000, description="denoising steps")
    guidance_scale: float | None = Field(default=None, ge=0, le=100, description="classifier-free guidance scale")
    width: int | None = Field(default=None, ge=8, le=8192, description="pixels")
    height: int | None = Field(default=None, ge=8, le=8192, description="pixels")
    negative_prompt: str | None = Field(default=None, description="negative prompt, when the pipeline takes one")
    scheduler: str | None = Field(default=None, description="diffusers scheduler class that replaces the repo's own")
    scheduler_config: dict[str, Any] = Field(
        default_factory=dict, description="entries of the scheduler's config that replace the repo's own"
    )
    trigger_words: tuple[str, ...] = Field(
        default=(), description="words that an adapter waits for, put before prompts"
    )
    adapter_scale: float | None = Field(default=None, ge=-10, le=10, description="weight of a LoRA; None is 1")
    call_kwargs: dict[str, Any] = Field(default_factory=dict, description="further call arguments, passed as they are")
    sources: dict[str, str] = Field(
        default_factory=dict,
        description="for each value above: manifest, card, name, config, metadata (of the weight file), header (its "
        "tensors' names), family or signature; `base ...` when it is the base's",
    )


class WeightFile(FrozenModel):
    """One file of a repo at the pinned revision."""

    path: str
    size: int = Field(ge=0, description="bytes")
    sha256: str | None = Field(
        default=None, description="hex digest from the hub's LFS record; None for plain git files"
    )
    dtype: str | None = Field(
        default=None,
        exclude=True,  # It only serves estimates: no id, download or row may depend on whether it is known.
        description="type that most of its tensors are stored in, as safetensors names it (F32, F16, ...): by its own "
        "name or header, else as the largest file of its repo; None: not known",
    )

    def to_record(self) -> dict[str, Any]:
        """Return the file as the catalog stores it: with `dtype`, which no other JSON of it has."""
        return self.model_dump() | ({} if self.dtype is None else {"dtype": self.dtype})


class BasePipeline(FrozenModel):
    """The pipeline that an adapter, a component or a single file is loaded into; pinned like the generator itself."""

    repo_id: str
    revision: str | None = Field(default=None, description="commit sha; None in a manifest until the crawl pins it")
    subfolder: str | None = None
    variant: str | None = None
    pipeline_class: str | None = None
    files: tuple[WeightFile, ...] = Field(
        default=(), description="weight files of the base that are needed; empty: only configs and tokenizers are"
    )

    def to_record(self) -> dict[str, Any]:
        """Return the base as the catalog stores it, see `WeightFile.to_record`."""
        return self.model_dump() | {"files": [file.to_record() for file in self.files]}


class GeneratorSpec(FrozenModel):
    """A generator pinned so that its images can be made again."""

    name: Slug
    kind: GeneratorKind
    packaging: Packaging = "pipeline"
    repo_id: str = Field(description="hub repo, owner/name")
    revision: str | None = Field(default=None, description="commit sha; None in a manifest until the crawl pins it")
    subfolder: str | None = Field(default=None, description="folder of the pipeline inside the repo")
    variant: str | None = Field(default=None, description="weight variant, such as fp16")
    pipeline_class: str | None = Field(default=None, description="`_class_name` of model_index.json")
    architecture: Architecture = "Other"
    family: str = Field(default="unknown", description="generators that share an architecture and a way of sampling")
    lineage: str | None = Field(default=None, description="root base model; splits go by it")
    license: str | None = None
    author: str | None = None
    release_date: str | None = Field(default=None, description="ISO date")
    hf_pipeline_tag: str | None = None
    hf_diffusers_tag: str | None = None
    subset: str = Field(default="systematic", description="part of the dataset: systematic, manual, commercial, ...")
    params: SamplingParams = SamplingParams()
    dtype: Dtype | None = Field(default=None, description="overrides the run's dtype")
    files: tuple[WeightFile, ...] = Field(default=(), description="weight files at the pinned revision")
    base: BasePipeline | None = Field(default=None, description="what any packaging but `pipeline` is loaded into")
    weight_name: str | None = Field(
        default=None, description="path in the repo of the adapter, checkpoint or embedding that was chosen"
    )
    component: str | None = Field(
        default=None,
        description="packaging `component`: the base's part it takes the place of, such as unet; `single-file`: the "
        "only part that the checkpoint holds",
    )
