"""What is trained on, in which order and at which rate, is a pure function of seed and position."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.learning_rate import learning_rate
from detectors.selection import Selection
from detectors.train_config import TrainConfig, parse_train_config
from detectors.training_stream import BatchPositions, SampleOrder
from detectors.validation_split import split_validation
from manifests.errors import InputError


def table(labels, photographs):
    return pa.table({"label": pa.array(labels, pa.int8()), "photograph": photographs})


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12)), min_size=4, max_size=80), st.integers(0, 5))
def test_no_photograph_is_on_both_sides(rows, seed):
    labels, photographs = [row[0] for row in rows], [f"photo-{row[1]}" for row in rows]
    try:
        training, validation = split_validation(table(labels, photographs), 0.2, seed)
    except InputError as error:
        assert "too few" in str(error)
        return
    assert sorted([*training, *validation]) == list(range(len(rows)))
    assert not {photographs[n] for n in training} & {photographs[n] for n in validation}
    for side in (training, validation):
        assert {labels[n] for n in side} == {0, 1}


def test_the_held_out_share_is_as_asked_and_does_not_depend_on_the_order_of_rows():
    photographs = [f"photo-{number}" for number in range(500)] * 2
    labels = [0] * 500 + [1] * 500
    training, validation = split_validation(table(labels, photographs), 0.01, 0)
    assert (len(training), len(validation)) == (990, 10)
    held = {photographs[n] for n in validation}
    order = np.random.default_rng(0).permutation(1000)
    _, again = split_validation(table([labels[n] for n in order], [photographs[n] for n in order]), 0.01, 0)
    assert {photographs[order[n]] for n in again} == held
    _, other = split_validation(table(labels, photographs), 0.01, 1)
    assert {photographs[n] for n in other} != held


def test_one_photograph_cannot_be_split():
    with pytest.raises(InputError, match=r"4 training images \(2 real, 2 fake\) come from 1 source photographs"):
        split_validation(table([0, 0, 1, 1], ["a"] * 4), 0.5, 0)


LABELS = np.array([0] * 30 + [1] * 110, dtype=np.int8)
GENERATORS = np.array([0] * 30 + [1] * 100 + [2] * 10)


def test_an_epoch_shows_every_image_once_and_the_next_one_in_another_order():
    order = SampleOrder(LABELS, GENERATORS, "none", 3)
    epochs = [[order.image(position) for position in range(start, start + 140)] for start in (0, 140)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(140))
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("balance", ["none", "label", "generator"])
def test_any_position_can_be_asked_for_first(balance):
    forward = SampleOrder(LABELS, GENERATORS, balance, 3)
    expected = [forward.image(position) for position in range(300)]
    backward = SampleOrder(LABELS, GENERATORS, balance, 3)
    assert [backward.image(position) for position in reversed(range(300))] == expected[::-1]
    assert [SampleOrder(LABELS, GENERATORS, balance, 4).image(position) for position in range(300)] != expected


def test_balance_evens_out_labels_and_generators():
    for balance, expected in (("label", [0.5, 0.5 * 100 / 110, 0.5 * 10 / 110]), ("generator", [0.5, 0.25, 0.25])):
        order = SampleOrder(LABELS, GENERATORS, balance, 0)
        drawn = GENERATORS[[order.image(position) for position in range(6000)]]
        np.testing.assert_allclose(np.bincount(drawn) / 6000, expected, atol=0.02)


@pytest.mark.parametrize(("accumulation", "processes"), [(1, 1), (3, 1), (1, 2), (2, 2)])
def test_processes_and_micro_batches_cover_each_batch_once(accumulation, processes):
    ranks = [list(BatchPositions(5, 8, 12, accumulation, rank, processes)) for rank in range(processes)]
    assert all(len(rank) == 3 * accumulation for rank in ranks)
    for iteration in range(3):
        part = slice(iteration * accumulation, (iteration + 1) * accumulation)
        seen = [position for rank in ranks for micro in rank[part] for position in micro]
        assert sorted(seen) == list(range((5 + iteration) * 12, (6 + iteration) * 12))


def test_the_learning_rate_equals_torch_schedulers():
    iterations, peak = 100, 2e-5
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    scheduler = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / 20, total_iters=19),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=79, eta_min=peak * 1e-3),
        ],
        milestones=[20],
    )
    for iteration in range(iterations):
        assert learning_rate(iteration, iterations, peak) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
        optimizer.step()
        scheduler.step()
    assert learning_rate(19, iterations, peak) == pytest.approx(peak)
    assert learning_rate(99, iterations, peak) == pytest.approx(peak * 1e-3)
    assert learning_rate(0, 1, peak) == peak


def test_the_defaults_are_the_papers():
    config = TrainConfig()
    assert (config.learning_rate, config.weight_decay, config.gradient_clip) == (2e-5, 1e-2, 1.0)
    assert (config.iterations, config.batch_size, config.warmup_fraction) == (52_000, 512, 0.2)
    assert (config.final_learning_rate_factor, config.validation_fraction) == (1e-3, 0.01)
    assert config.architecture == "commfor-vit-s-384"


def test_a_config_from_yaml_values_is_strict_about_keys_and_types():
    values = {"iterations": 5, "selection": {"split": "train", "generators": ["a", "b"]}, "initial_backbone": "weights"}
    config = parse_train_config(values)
    assert config.selection == Selection(split="train", generators=("a", "b"))
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config
    for bad, message in (
        ({"iteratons": 5}, r"iteratons = 5: .*keys: architecture, "),
        ({"iterations": "5"}, r"iterations = '5'"),
        ({"iterations": 0}, r"iterations = 0: .*greater than or equal to 1"),
        ({"balance": "fair"}, r"balance = 'fair': .*'none', 'label' or 'generator'"),
        ({"batch_size": 5, "gradient_accumulation": 2}, r"not a multiple"),
        ({"initial_backbone": "a", "initial_detector": "b"}, r"exclude each other"),
        ({"selection": {"splits": "train"}}, r"selection\.splits = 'train'"),
    ):
        with pytest.raises(InputError, match=message):
            parse_train_config(bad)
