"""The metrics equal independent references, and a missing class is never a number."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score
from torchmetrics.functional.classification import (
    binary_accuracy,
    binary_auroc,
    binary_average_precision,
    binary_recall,
    binary_specificity,
)

from detectors.bootstrap import GeneratorScores, macro_intervals, weighted_auc_ap
from detectors.metrics import binary_metrics, macro_metrics, roc_points, score_histogram

# few distinct values, exactly representable, so that ties are common and no reference rounds them apart
SCORES = st.integers(0, 16).map(lambda value: value / 16)
SETS = st.lists(st.tuples(st.integers(0, 1), SCORES), min_size=1, max_size=60)


def by_pairs(labels, scores):
    """AUC by its definition: the chance that a fake scores above a real, ties half."""
    fakes, reals = scores[labels == 1], scores[labels == 0]
    return np.mean((fakes[:, None] > reals) + (fakes[:, None] == reals) / 2)


@settings(max_examples=150, deadline=None)
@given(SETS)
def test_equal_scikit_learn_torchmetrics_and_the_definitions(pairs):
    labels, scores = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    assume(0 < labels.sum() < len(labels))
    got = binary_metrics(labels, scores)
    target, preds = torch.tensor(labels), torch.tensor(scores)
    assert got.auc == pytest.approx(by_pairs(labels, scores), abs=1e-12)
    assert got.auc == pytest.approx(float(binary_auroc(preds, target)), abs=1e-6)
    assert got.ap == pytest.approx(float(binary_average_precision(preds, target)), abs=1e-6)
    assert got.accuracy == pytest.approx(float(binary_accuracy(preds, target)), abs=1e-6)
    assert got.f_acc == pytest.approx(float(binary_recall(preds, target)), abs=1e-6)
    assert got.r_acc == pytest.approx(float(binary_specificity(preds, target)), abs=1e-6)
    assert got.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, scores > 0.5), abs=1e-12)
    assert (got.n_real, got.n_fake) == (int((labels == 0).sum()), int(labels.sum()))
    assert got.undefined == {}


def test_a_score_of_exactly_one_half_is_real():
    got = binary_metrics([0, 1], [0.5, 0.5])
    assert (got.r_acc, got.f_acc, got.accuracy) == (1.0, 0.0, 0.5)


@pytest.mark.parametrize(("label", "reason"), [(1, "no real images"), (0, "no fake images")])
def test_one_class_leaves_everything_but_its_own_accuracy_undefined(label, reason):
    got = binary_metrics([label] * 4, [0.9, 0.8, 0.7, 0.1])
    assert (got.ap, got.auc, got.accuracy, got.balanced_accuracy) == (None, None, None, None)
    assert got.undefined == dict.fromkeys(
        ("ap", "auc", "accuracy", "balanced_accuracy", "r_acc" if label else "f_acc"), reason
    )
    assert (got.f_acc if label else got.r_acc) == (0.75 if label else 0.25)


def test_the_macro_mean_is_unweighted_and_leaves_one_class_generators_out():
    good = binary_metrics([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
    bad = binary_metrics([0] * 30 + [1] * 30, [0.9] * 30 + [0.1] * 30)
    lonely = binary_metrics([1, 1], [0.9, 0.1])
    macro = macro_metrics([("good", good), ("bad", bad), ("lonely", lonely)])
    assert macro.n == 2
    assert macro.auc == pytest.approx((1.0 + 0.0) / 2)
    assert macro.ap == pytest.approx((1.0 + bad.ap) / 2)
    assert macro.f_acc == pytest.approx(0.5)  # lonely's own f_acc of 0.5 is not in it either
    assert macro.excluded == {"lonely": "no real images"}


def test_a_macro_mean_of_nothing_is_none():
    macro = macro_metrics([("lonely", binary_metrics([1], [0.9]))])
    assert (macro.n, macro.ap, macro.auc, macro.accuracy) == (0, None, None, None)


@pytest.mark.parametrize(
    ("labels", "scores"),
    [([0, 1], [0.5]), ([0, 2], [0.1, 0.2]), ([0, 1], [0.1, float("nan")]), ([0, 1], [0.1, 1.5])],
)
def test_malformed_input_is_refused(labels, scores):
    with pytest.raises(ValueError, match=r"labels|scores"):
        binary_metrics(labels, scores)


def test_roc_points_run_from_corner_to_corner_and_keep_the_area_when_thinned():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 5000)
    scores = 1 / (1 + np.exp(-(rng.normal(size=5000) + labels)))
    curve = roc_points(labels, scores, max_points=101)
    x, y = np.array(curve.false_positive_rate), np.array(curve.true_positive_rate)
    assert len(x) <= 101
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert np.all(np.diff(x) >= 0)
    assert np.all(np.diff(y) >= 0)
    assert np.trapezoid(y, x) == pytest.approx(roc_auc_score(labels, scores), abs=2e-3)
    assert roc_points([1, 1], [0.2, 0.4]) is None


def test_histogram_counts_every_score_of_each_class():
    got = score_histogram([0, 0, 1, 1, 1], [0.0, 0.49, 0.5, 1.0, 0.999], bins=2)
    assert (got.edges, got.real, got.fake) == ((0.0, 0.5, 1.0), (2, 0), (0, 3))


@settings(max_examples=60, deadline=None)
@given(SETS, st.data())
def test_weighted_auc_and_ap_equal_scikit_learn_with_sample_weight(pairs, data):
    labels, scores = np.array([p[0] for p in pairs], dtype=np.int8), np.array([p[1] for p in pairs])
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(pairs), max_size=len(pairs))), dtype=float)
    auc, ap = weighted_auc_ap(labels, scores, np.stack([weights, np.ones(len(pairs))]))
    for row, weight in enumerate((weights, np.ones(len(pairs)))):
        present = {int(label) for label, w in zip(labels, weight, strict=True) if w > 0}
        if present != {0, 1}:
            assert np.isnan(auc[row])
            assert np.isnan(ap[row])
            continue
        assert auc[row] == pytest.approx(roc_auc_score(labels, scores, sample_weight=weight), abs=1e-12)
        assert ap[row] == pytest.approx(average_precision_score(labels, scores, sample_weight=weight), abs=1e-12)


def generator(rng, photographs, shift):
    """One real and one fake per photograph, their scores moved together by the photograph."""
    mood = rng.normal(size=photographs)
    logits = np.concatenate((mood, mood + shift)) + rng.normal(scale=0.1, size=2 * photographs)
    labels = np.repeat(np.array([0, 1], dtype=np.int8), photographs)
    return GeneratorScores(labels, 1 / (1 + np.exp(-logits)), np.tile(np.arange(photographs), 2))


def test_the_interval_holds_the_point_estimate_and_shrinks_with_more_photographs():
    rng = np.random.default_rng(0)
    widths = []
    for photographs in (30, 1000):
        scores = generator(rng, photographs, 1.0)
        point = roc_auc_score(scores.labels, scores.scores)
        got = macro_intervals([scores], photographs, resamples=400)
        assert got.auc.low < point < got.auc.high
        assert 0 <= got.ap.low <= got.ap.high <= 1
        assert got.resamples == 400
        widths.append(got.auc.high - got.auc.low)
    assert widths[1] < widths[0] / 3


def test_the_interval_is_the_percentile_interval_of_explicit_resamples():
    rng = np.random.default_rng(1)
    scores = generator(rng, 12, 0.5)
    got = macro_intervals([scores], 12, resamples=300, seed=4)
    draws = np.random.default_rng(4).multinomial(12, np.full(12, 1 / 12), size=300)
    aucs = []
    for counts in draws:
        kept = np.repeat(np.arange(24), counts[scores.photograph])
        aucs.append(by_pairs(scores.labels[kept], scores.scores[kept]))
    low, high = np.quantile(aucs, [0.025, 0.975])
    assert (got.auc.low, got.auc.high) == (pytest.approx(low), pytest.approx(high))


def test_no_interval_without_generators_or_with_one_photograph():
    assert macro_intervals([], 5).reason == "no generator has both classes"
    single = GeneratorScores(np.array([0, 1], dtype=np.int8), np.array([0.1, 0.9]), np.array([0, 0]))
    got = macro_intervals([single], 1)
    assert (got.auc, got.ap, got.reason) == (None, None, "fewer than two photographs")
