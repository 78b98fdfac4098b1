"""Bootstrap intervals of the macro metrics, resampling source photographs.

A fake and the real it was prompted from share their content, and the same real is paired with every generator, so
images are not independent: the photograph is. Each resample draws photographs with replacement and gives every image
the number of times its photograph was drawn as weight; the metrics are then the weighted ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from manifests.frozen import FrozenModel

_CHUNK_ELEMENTS = 4_000_000


class Interval(FrozenModel):
    """A two-sided percentile interval."""

    low: float
    high: float


class MacroIntervals(FrozenModel):
    """Intervals of the macro AUC and AP, or the reason why there are none."""

    level: float = Field(description="coverage, such as 0.95")
    resamples: int = Field(description="resamples in which at least one generator had both classes")
    photographs: int = Field(description="resampled units")
    unit: str = "source photograph (an image without one is its own)"
    auc: Interval | None = None
    ap: Interval | None = None
    reason: str | None = Field(default=None, description="why there is no interval")


@dataclass(frozen=True)
class GeneratorScores:
    """One generator's fakes and its reals; `photograph` holds indices 0..P-1 that all generators share."""

    labels: NDArray[np.int8]
    scores: NDArray[np.float64]
    photograph: NDArray[np.int64]


def weighted_auc_ap(
    labels: NDArray[np.int8], scores: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return AUC and AP, each (B,), of one set of images under B weightings (B, N): scikit-learn's with sample_weight.

    NaN where a weighting leaves one class without weight.
    """
    order = np.argsort(-scores, kind="stable")
    sorted_scores, positive = scores[order], labels[order] == 1
    ends = np.append(np.flatnonzero(np.diff(sorted_scores)), len(scores) - 1)  # ties are one threshold
    ordered = weights[:, order]
    true_positive = np.cumsum(np.where(positive, ordered, 0.0), axis=1)[:, ends]
    false_positive = np.cumsum(np.where(positive, 0.0, ordered), axis=1)[:, ends]
    total_positive, total_negative = true_positive[:, -1:], false_positive[:, -1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        recall_steps = np.diff(true_positive, axis=1, prepend=0.0) / total_positive
        called = true_positive + false_positive
        precision = np.divide(true_positive, called, out=np.zeros_like(called), where=called > 0)
        ap = (recall_steps * precision).sum(axis=1)
        previous = np.concatenate((np.zeros_like(total_positive), true_positive[:, :-1]), axis=1)
        steps = np.diff(false_positive, axis=1, prepend=0.0)
        auc = (steps * (true_positive + previous) / 2).sum(axis=1) / (total_positive * total_negative)[:, 0]
    missing = (total_positive[:, 0] == 0) | (total_negative[:, 0] == 0)
    ap[missing] = np.nan
    auc[missing] = np.nan
    return auc, ap


def macro_intervals(
    generators: Sequence[GeneratorScores],
    photographs: int,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> MacroIntervals:
    """Return percentile intervals of the macro AUC and AP over `resamples` draws of `photographs` photographs.

    In a resample that leaves a generator with one class, that generator is left out of that resample's mean.
    """
    if not generators:
        return MacroIntervals(level=level, resamples=0, photographs=photographs, reason="no generator has both classes")
    if photographs < 2:
        return MacroIntervals(level=level, resamples=0, photographs=photographs, reason="fewer than two photographs")
    rng = np.random.default_rng(seed)
    largest = max(photographs, *(len(generator.scores) for generator in generators))
    chunk = max(1, _CHUNK_ELEMENTS // largest)
    aucs: list[NDArray[np.float64]] = []
    aps: list[NDArray[np.float64]] = []
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        counts = rng.multinomial(photographs, np.full(photographs, 1 / photographs), size=size).astype(float)
        pairs = [weighted_auc_ap(g.labels, g.scores, counts[:, g.photograph]) for g in generators]
        aucs.append(_mean_over_generators([auc for auc, _ in pairs]))
        aps.append(_mean_over_generators([ap for _, ap in pairs]))
    auc, ap = np.concatenate(aucs), np.concatenate(aps)
    auc, ap = auc[~np.isnan(auc)], ap[~np.isnan(ap)]
    if len(auc) == 0:
        return MacroIntervals(level=level, resamples=0, photographs=photographs, reason="no resample held both classes")
    return MacroIntervals(
        level=level,
        resamples=len(auc),
        photographs=photographs,
        auc=_percentiles(auc, level),
        ap=_percentiles(ap, level),
    )


def _mean_over_generators(values: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    table = np.stack(values)
    present = (~np.isnan(table)).sum(axis=0)
    total = np.nansum(table, axis=0)
    return np.divide(total, present, out=np.full(len(total), np.nan), where=present > 0)


def _percentiles(values: NDArray[np.float64], level: float) -> Interval:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(low=float(low), high=float(high))
