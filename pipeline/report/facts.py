"""Everything the report shows, as plain values. Readers make them from a run's folder; templates print them.

A part that the run does not have is None (or an empty tuple), and the page says so. Shares and scores are in [0, 1].
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.report.cost_facts import Components, WorkingTime
from pipeline.report.detector_facts import Detector, Evaluation
from pipeline.report.picture_facts import Fact, Picture


@dataclass(frozen=True, slots=True)
class Count:
    """How many there are of something; `note` explains the name."""

    name: str
    value: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A resolved sampling parameter and where its value came from."""

    name: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Model:
    """One crawled model."""

    rank: int
    repo_id: str
    generator: str
    revision: str | None
    link: str | None
    eligible: bool
    reason: str
    meaning: str
    detail: str | None
    named: bool
    family: str | None
    family_evidence: str | None
    pipeline_class: str | None
    license: str | None
    downloads: int | None
    weight_bytes: int | None
    parameters: tuple[Parameter, ...]


@dataclass(frozen=True, slots=True)
class Crawl:
    """The catalog: what the hub had, and why models were left out."""

    snapshots: tuple[str, ...]
    crawled: int
    eligible: int
    reasons: tuple[Count, ...]
    licences: Mapping[str, tuple[int, int]]
    """licence -> (crawled, eligible)"""
    models: tuple[Model, ...]
    generators: Mapping[str, Model]
    """generator name -> its eligible model"""
    components: Components | None = None


@dataclass(frozen=True, slots=True)
class GeneratorGallery:
    """The first images of one generator."""

    name: str
    family: str | None
    images: int
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class Gallery:
    """Pictures of some generators; `of` is how many generators have images, `problems` what could not be shown."""

    generators: tuple[GeneratorGallery, ...]
    of: int
    lazy: bool
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one generator's draws, or of one real source's images, in one split."""

    generator: str
    label: int
    family: str | None
    split: str | None
    draws: int
    ok: int
    flagged: int
    degenerate: int
    failures: tuple[Count, ...]
    """status -> draws"""
    reasons: tuple[Count, ...]
    """reason -> draws, without `none`"""
    committed: int
    """draws that the commits count; equal to `draws` when the dataset reconciles"""

    @property
    def failed(self) -> int:
        return sum(count.value for count in self.failures)

    @property
    def reconciled(self) -> bool:
        return self.ok + self.flagged + self.degenerate + self.failed == self.draws == self.committed


@dataclass(frozen=True, slots=True)
class LabelCount:
    """How many real and how many generated images have a property."""

    name: str
    real: int
    fake: int


@dataclass(frozen=True, slots=True)
class Licence:
    """A licence, and how much of the run it governs."""

    name: str
    crawled: int
    eligible: int
    real: int
    fake: int


@dataclass(frozen=True, slots=True)
class Composition:
    """The dataset by generator, status, split, label, size and format. Images means status ok."""

    outcomes: tuple[Outcome, ...]
    splits: tuple[LabelCount, ...]
    formats: tuple[LabelCount, ...]
    formats_left_out: int
    prompt_sources: tuple[Count, ...]
    real_images: int
    fake_images: int
    pairs: int
    """generated images whose prompt came from a real image of the dataset"""

    def total(self, status: str, label: int = 1) -> int:
        """Draws of a status (`ok`, `flagged`, `degenerate`, `failed` or `draws`) over all generators."""
        return sum(getattr(outcome, status) for outcome in self.outcomes if outcome.label == label)

    @property
    def sampled(self) -> int:
        """Generators with at least one ok image."""
        return len({outcome.generator for outcome in self.outcomes if outcome.label == 1 and outcome.ok})

    @property
    def formats_shared(self) -> bool:
        """Every size and format has images of both labels."""
        return not self.formats_left_out and all(entry.real and entry.fake for entry in self.formats)

    @property
    def reconciled(self) -> bool:
        return all(outcome.reconciled for outcome in self.outcomes)


@dataclass(frozen=True, slots=True)
class Provenance:
    """What it takes to make this dataset again."""

    facts: tuple[Fact, ...]
    environments: tuple[Count, ...]
    versions: tuple[Fact, ...]
    config: str | None
    regenerate: tuple[str, str]
    """the command that makes an image again: what stands before and after its id"""
    example_image: str | None
    local_hub: str | None
    """the hub's address when only the machine that ran this can reach it"""
    serve_hub: str | None
    """the command that starts that hub again, where it is known"""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The whole report."""

    name: str
    crawl: Crawl | None
    gallery: Gallery | None
    composition: Composition | None
    licences: tuple[Licence, ...]
    detectors: tuple[Detector, ...]
    provenance: Provenance
    notes: str = ""
    time: WorkingTime | None = None

    @property
    def headline(self) -> tuple[Detector, Evaluation] | None:
        """The evaluation that the header shows: the first detector's first with a macro AUC."""
        for detector in self.detectors:
            for evaluation in detector.evaluations:
                if evaluation.macro is not None and evaluation.macro.auc is not None:
                    return detector, evaluation
        return None
