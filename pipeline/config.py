"""The run's configuration: one YAML file. Every key is marked identity, extent or runtime (see manifests.key_kinds)."""

from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ByteSize, Field, StringConstraints, model_validator

from manifests.frozen import FrozenModel
from manifests.generator import Dtype, Packaging
from manifests.key_kinds import extent, identity, identity_settings, runtime
from manifests.names import Slug
from manifests.real_source import RealSource

RepoId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$")]
Revision = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]


class HubConfig(FrozenModel):
    """Where the models come from. The token comes from HF_TOKEN or the client's login, never from this file."""

    endpoint: str = runtime("https://huggingface.co", pattern=r"^https?://[^\s]+$", description="hub's address")
    cache: Path | None = runtime(None, description="folder of downloaded models; default: the hub client's own")
    download_timeout: float = runtime(3600.0, gt=0, description="seconds one model's download may take")
    disk_budget: ByteSize | None = runtime(
        None,
        ge=1,
        description="bytes the cache may hold, such as 400GB; the least recently used models go. null: no limit",
    )
    patience: float = runtime(
        600.0,
        ge=0,
        description="seconds that a run waits for a hub that answers nobody, before it stops",
    )
    prefetch: int = runtime(1, ge=0, le=16, description="models fetched ahead by each worker while it samples")


class CrawlConfig(FrozenModel):
    """Which models become generators. Raising a limit or naming more adds to the dataset."""

    count: int = extent(0, ge=0, description="take the N most downloaded diffusers models; 0: only what is named")
    min_downloads: int = extent(0, ge=0, description="the listing ends at the first model with fewer")
    max_per_author: int | None = extent(None, ge=1, description="eligible models taken from one uploader")
    max_per_base: int | None = extent(None, ge=1, description="eligible adapters taken of one base model")
    packagings: tuple[Packaging, ...] = extent(
        ("pipeline", "lora", "component", "single-file", "textual-inversion"),
        description="how a generator may lie in its repo: whole pipelines, adapters, parts of one, ...",
    )
    tasks: tuple[str, ...] = extent((), description="the hub's pipeline tags taken, such as text-to-image; empty: any")
    families: tuple[str, ...] = extent((), description="families taken, such as sdxl; empty: any")
    created_from: date | None = extent(None, description="models created on this day or later")
    created_until: date | None = extent(None, description="models created on this day or earlier")
    models: tuple[RepoId, ...] = extent((), description="models wanted by name; one that is left out makes exit code 1")
    manifests: tuple[Path, ...] = extent((), description="YAML files of generators; relative to this file")
    licences_allow: tuple[str, ...] = extent((), description="licences taken; empty: any")
    licences_deny: tuple[str, ...] = extent((), description="licences left out; denying beats allowing")


class CaptionerConfig(FrozenModel):
    """The model that captions photographs which have no caption."""

    repo_id: RepoId = identity("Salesforce/blip-image-captioning-large", description="hub repo of a BLIP captioner")
    revision: Revision | None = identity(None, description="commit sha; null: pinned at the first run")
    batch_size: int = identity(8, ge=1, description="photographs captioned together")
    max_new_tokens: int = identity(30, ge=1, le=512, description="longest caption, in tokens")


class CaptionConfig(FrozenModel):
    """Real photographs, and the prompts made from them."""

    reals: tuple[RealSource, ...] = extent((), description="sources of real photographs")
    unit_images: int = identity(64, ge=1, description="real images in one unit")
    given: bool = identity(True, description="use the captions that came with the photographs")
    captioner: CaptionerConfig | None = identity(
        None, description="captions photographs without one; null: such photographs give no prompt"
    )

    @model_validator(mode="after")
    def _names_are_unique(self) -> "CaptionConfig":
        names = [source.name for source in self.reals]
        if len(set(names)) < len(names):
            raise ValueError("two real sources have the same name")
        return self


class CheckerConfig(FrozenModel):
    """The safety checker that scores every generated image."""

    repo_id: RepoId = identity(
        "CompVis/stable-diffusion-safety-checker", description="hub repo of Stable Diffusion's checker, or one like it"
    )
    revision: Revision | None = identity(None, description="commit sha; null: pinned at the first run")


class SampleConfig(FrozenModel):
    """How many images each generator makes, and everything that their bytes depend on."""

    images_per_generator: int = extent(64, ge=1, description="images wanted from each generator")
    unit_images: int = identity(64, ge=1, le=4096, description="images in one unit of work")
    reserve_fraction: float = identity(
        0.5, ge=0, le=1, description="reserve prompts for each wanted image; they replace flagged and degenerate ones"
    )
    batch_size: Annotated[int, Field(ge=1, le=512)] | Literal["auto"] = identity(
        4, description="images sampled together; a short batch is padded. auto: what device_memory holds of each model"
    )
    device_memory: ByteSize | None = identity(
        None,
        description="memory of a worker's device that auto plans for, such as 80GiB; 0: CPU; null: this machine's",
    )
    cpu_threads: int = identity(1, ge=1, description="threads of one worker: other counts give other bytes")
    dtype: Dtype | Literal["auto"] = identity(
        "float32", description="float32, float16, bfloat16, or auto: each family's own; a manifest's own wins"
    )
    compile: bool = identity(False, description="compile denoisers: faster on a GPU, other kernels, so other bytes")
    checker: CheckerConfig | None = identity(CheckerConfig(), description="null: images are not scored")
    keep_flagged: bool = identity(False, description="store the bytes of flagged images too")


class SplitConfig(FrozenModel):
    """Train and test go by lineage for generators and by photograph for real images and their prompts."""

    test_fraction: float = identity(0.2, ge=0, le=1, description="share of lineages and of photographs held out")
    salt: str = identity("commforge", description="another salt gives another split")
    test_generators: tuple[str, ...] = extent(
        (), description="names or repo ids held out; their whole lineage goes to test. Empty: by test_fraction"
    )


class DetectorConfig(FrozenModel):
    """One detector to train on the train split and score on the test split."""

    name: Slug = runtime(..., description="folder of the detector in the run")
    architecture: str = runtime(..., description="see `commforge detector list`")
    backbone: Literal["pretrained", "random"] = runtime(
        "pretrained", description="start from the architecture's published backbone, if it has one, or from scratch"
    )
    train: dict[str, int | float | bool | str | None] = runtime(
        {}, description="as `--set` of `commforge detector train`; a wrong key is refused with the list"
    )


class ExecuteConfig(FrozenModel):
    """Where the work runs. No choice here changes an image; device and libraries are recorded as the environment.

    One exception: a model that is offloaded is not compiled, whatever `sample.compile` says. Its rows name another
    environment then.
    """

    executor: Literal["inline", "ray"] = runtime(
        "ray", description="ray, or inline: one worker in the driver's process"
    )
    workers: int = runtime(1, ge=1, description="workers that sample at the same time")
    gpus_per_worker: float = runtime(0.0, ge=0, description="0: workers run on the CPU")
    device: Literal["auto", "cpu", "cuda", "mps"] = runtime("auto", description="auto, cpu, cuda or mps")
    ray_address: str | None = runtime(None, description="address of a running cluster; null: start one on this machine")
    attempts: int = runtime(3, ge=1, description="tries of a unit that fails in a way that may pass")
    unit_timeout: float = runtime(
        3600.0, gt=0, description="seconds one unit may take once its files are here (executor ray)"
    )
    offload: Literal["auto", "none", "model", "sequential"] = runtime(
        "auto", description="parts of a model that wait in main memory; auto: as few as the device's memory needs"
    )
    spares: int = runtime(
        0, ge=0, le=4, description="started processes that each worker keeps for the death of its own, 0.5 GiB each"
    )
    tasks_per_worker: int | None = runtime(None, ge=1, description="units after which a worker process is replaced")
    worker_memory: ByteSize | None = runtime(
        None, ge=1, description="a worker that holds more main memory than this after a unit is replaced; 1 GiB is idle"
    )
    metrics_port: int | None = runtime(
        None, ge=0, le=65535, description="port on which the driver serves Prometheus metrics; 0: any free one"
    )
    spool: Path | None = runtime(None, description="folder for unpublished shards; default: the system's temporary one")


class RunConfig(FrozenModel):
    """A whole run: crawl → caption → sample → audit → train → evaluate → report."""

    name: Slug = identity(..., description="the dataset's name")
    output: Path = runtime(..., description="the run's folder; relative to the working folder")
    licence_notes: str = runtime("", description="free text for the dataset's card")
    hub: HubConfig = HubConfig()
    crawl: CrawlConfig = CrawlConfig()
    caption: CaptionConfig = CaptionConfig()
    sample: SampleConfig = SampleConfig()
    splits: SplitConfig = SplitConfig()
    detectors: tuple[DetectorConfig, ...] = runtime((), description="detectors to train and evaluate")
    execute: ExecuteConfig = ExecuteConfig()

    def identity(self) -> dict[str, object]:
        """Return the settings that affect bytes, by dotted key."""
        return identity_settings(self)
