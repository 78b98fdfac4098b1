"""Metrics of a real/fake detector as pure functions of labels and scores.

Labels are 0 (real) and 1 (fake); scores are probabilities of fake; an image is called fake when its score is above 0.5,
as in Community Forensics. A metric that needs both classes is None when one is missing, with the reason beside it:
it can never enter a mean (the released Community Forensics code averages AP = -1 for such generators).
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from manifests.frozen import FrozenModel

THRESHOLD = 0.5
METRIC_NAMES = ("ap", "auc", "accuracy", "balanced_accuracy", "r_acc", "f_acc")


class BinaryMetrics(FrozenModel):
    """The metrics of one set of scored images; None where undefined, with the reason in `undefined`."""

    n_real: int
    n_fake: int
    ap: float | None = Field(description="average precision: sum of precision over recall steps, fake positive")
    auc: float | None = Field(description="area under the ROC curve")
    accuracy: float | None = Field(description="share of images on the right side of 0.5")
    balanced_accuracy: float | None = Field(description="mean of r_acc and f_acc")
    r_acc: float | None = Field(description="share of reals at or below 0.5")
    f_acc: float | None = Field(description="share of fakes above 0.5")
    undefined: dict[str, str] = Field(default_factory=dict, description="metric -> why it is None")


class MacroMetrics(FrozenModel):
    """Unweighted means over the generators that have both classes."""

    n: int = Field(description="generators in the mean")
    ap: float | None
    auc: float | None
    accuracy: float | None
    balanced_accuracy: float | None
    r_acc: float | None
    f_acc: float | None
    excluded: dict[str, str] = Field(default_factory=dict, description="generator -> why it is not in the mean")


class RocCurve(FrozenModel):
    """Points of an ROC curve, ascending; both coordinates in [0, 1]."""

    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]


class ScoreHistogram(FrozenModel):
    """Counts of scores in equal bins over [0, 1]; the last bin includes 1."""

    edges: tuple[float, ...]
    real: tuple[int, ...]
    fake: tuple[int, ...]


def check_scores(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Return both as equally long flat arrays.

    Raises:
        ValueError: lengths differ, a label is not 0 or 1, or a score is not in [0, 1].
    """
    label_array, score_array = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if label_array.shape != score_array.shape or label_array.ndim != 1:
        raise ValueError(f"labels {label_array.shape} and scores {score_array.shape} must be flat and of one length")
    if not np.isin(label_array, (0, 1)).all():
        raise ValueError("labels must be 0 (real) or 1 (fake)")
    if not ((score_array >= 0) & (score_array <= 1)).all():
        raise ValueError("scores must be numbers in [0, 1]")
    return label_array.astype(np.int8), score_array


def binary_metrics(labels: ArrayLike, scores: ArrayLike) -> BinaryMetrics:
    """Return every metric of one set. Raises ValueError for malformed input (see `check_scores`)."""
    y, s = check_scores(labels, scores)
    n_fake = int(y.sum())
    n_real = len(y) - n_fake
    called_fake = s > THRESHOLD
    r_acc = float(np.mean(~called_fake[y == 0])) if n_real else None
    f_acc = float(np.mean(called_fake[y == 1])) if n_fake else None
    undefined: dict[str, str] = {}
    if n_real == 0:
        undefined["r_acc"] = "no real images"
    if n_fake == 0:
        undefined["f_acc"] = "no fake images"
    if r_acc is None or f_acc is None:
        reason = " and ".join(undefined.values())
        undefined |= dict.fromkeys(("ap", "auc", "accuracy", "balanced_accuracy"), reason)
        return BinaryMetrics(
            n_real=n_real,
            n_fake=n_fake,
            ap=None,
            auc=None,
            accuracy=None,
            balanced_accuracy=None,
            r_acc=r_acc,
            f_acc=f_acc,
            undefined=undefined,
        )
    return BinaryMetrics(
        n_real=n_real,
        n_fake=n_fake,
        ap=float(average_precision_score(y, s)),
        auc=float(roc_auc_score(y, s)),
        accuracy=float(np.mean(called_fake == (y == 1))),
        balanced_accuracy=(r_acc + f_acc) / 2,
        r_acc=r_acc,
        f_acc=f_acc,
    )


def macro_metrics(per_generator: Iterable[tuple[str, BinaryMetrics]]) -> MacroMetrics:
    """Return the unweighted mean over generators with both classes, and name those left out."""
    included: list[BinaryMetrics] = []
    excluded: dict[str, str] = {}
    for name, metrics in per_generator:
        if metrics.undefined:
            excluded[name] = " and ".join(sorted(set(metrics.undefined.values())))
        else:
            included.append(metrics)

    def mean(metric: str) -> float | None:
        return float(np.mean([getattr(metrics, metric) for metrics in included])) if included else None

    return MacroMetrics(n=len(included), excluded=excluded, **{metric: mean(metric) for metric in METRIC_NAMES})


def roc_points(labels: ArrayLike, scores: ArrayLike, max_points: int = 201) -> RocCurve | None:
    """Return the ROC curve thinned to at most `max_points` of its corners, ends included; None with one class only."""
    y, s = check_scores(labels, scores)
    if y.min(initial=1) == y.max(initial=0):
        return None
    false_positive, true_positive, _ = roc_curve(y, s)
    if len(false_positive) > max_points:
        # even steps along the curve's length, not along either axis: steep and flat parts keep their corners
        length = np.concatenate(([0.0], np.cumsum(np.abs(np.diff(false_positive)) + np.abs(np.diff(true_positive)))))
        wanted = np.linspace(0, length[-1], max_points)
        keep = np.unique(np.searchsorted(length, wanted).clip(0, len(length) - 1))
        false_positive, true_positive = false_positive[keep], true_positive[keep]
    return RocCurve(
        false_positive_rate=tuple(float(value) for value in false_positive),
        true_positive_rate=tuple(float(value) for value in true_positive),
    )


def score_histogram(labels: ArrayLike, scores: ArrayLike, bins: int = 40) -> ScoreHistogram:
    """Return how the scores of reals and of fakes are spread over `bins` equal bins of [0, 1]."""
    y, s = check_scores(labels, scores)
    edges = np.linspace(0, 1, bins + 1)
    real, _ = np.histogram(s[y == 0], edges)
    fake, _ = np.histogram(s[y == 1], edges)
    return ScoreHistogram(
        edges=tuple(float(edge) for edge in edges),
        real=tuple(int(count) for count in real),
        fake=tuple(int(count) for count in fake),
    )
