"""What the report shows of a run's detectors, as plain values. Shares and scores are in [0, 1]."""

from dataclasses import dataclass

from pipeline.report.picture_facts import Fact, Picture


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Metrics:
    """A detector's metrics on one set of images; None where a class is missing."""

    auc: float | None
    ap: float | None
    accuracy: float | None
    r_acc: float | None
    f_acc: float | None
    fake: int | None = None
    """generated images; None for a mean over generators"""


@dataclass(frozen=True, slots=True)
class GeneratorScore:
    """One generator's metrics, on the images as they are and after format equalisation."""

    generator: str
    family: str | None
    native: Metrics
    equalised: Metrics | None
    undefined: str | None = None


@dataclass(frozen=True, slots=True)
class Roc:
    """An ROC curve; both coordinates ascending in [0, 1]."""

    name: str
    auc: float | None
    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of scores of reals and of fakes between `edges`."""

    edges: tuple[float, ...]
    real: tuple[int, ...]
    fake: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation of a detector."""

    title: str
    facts: tuple[Fact, ...]
    macro: Metrics | None
    micro: Metrics | None
    equalised_macro: Metrics | None
    equalised_micro: Metrics | None
    macro_generators: int | None
    unseen: bool
    """the detector was trained on none of these generators"""
    auc_interval: Interval | None
    ap_interval: Interval | None
    interval_note: str
    equalisation: str
    generators: tuple[GeneratorScore, ...]
    curves: tuple[Roc, ...]
    curves_left_out: int
    macro_curve: Roc | None
    histograms: tuple[tuple[str, Histogram], ...]
    missed_fakes: tuple[Picture, ...] = ()
    doubted_reals: tuple[Picture, ...] = ()


@dataclass(frozen=True, slots=True)
class Detector:
    """A trained detector and its evaluations."""

    name: str
    facts: tuple[Fact, ...]
    evaluations: tuple[Evaluation, ...]
    problems: tuple[str, ...] = ()
