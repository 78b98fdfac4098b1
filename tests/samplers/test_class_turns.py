"""Every class gets as many images as any other, whatever the count and however it is reached."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplers.class_turns import ClassTurns


@given(classes=st.integers(1, 60), images=st.integers(0, 400))
def test_counts_differ_by_at_most_one_for_every_number_of_images(classes: int, images: int) -> None:
    turns = ClassTurns("owner--model", classes)
    counts = Counter(turns.class_of(index) for index in range(images))
    assert all(0 <= number < classes for number in counts)
    per_class = [counts[number] for number in range(classes)]
    assert max(per_class) - min(per_class) <= (1 if images % classes else 0)


@given(st.lists(st.integers(-500, 500), min_size=1))
def test_a_class_depends_on_the_number_of_the_draw_alone(indices: list[int]) -> None:
    turns = ClassTurns("owner--model", 13)
    assert [turns.class_of(index) for index in indices] == [
        ClassTurns("owner--model", 13).class_of(index) for index in indices
    ]


def test_reserve_draws_take_turns_too() -> None:
    turns = ClassTurns("owner--model", 10)
    assert sorted(turns.class_of(-place - 1) for place in range(10)) == list(range(10))


def test_orders_differ_between_turns_and_generators() -> None:
    turns = ClassTurns("owner--model", 100)
    first, second = ([turns.class_of(turn * 100 + place) for place in range(100)] for turn in (0, 1))
    other = [ClassTurns("owner--other", 100).class_of(place) for place in range(100)]
    assert first != second != other != first
    assert first != list(range(100))


def test_the_order_is_fixed_for_good() -> None:
    """Datasets are extended years later: these numbers must never change."""
    turns = ClassTurns("facebook--DiT-XL-2-256", 1000)
    assert [turns.class_of(index) for index in (0, 1, 2, 1000, -1)] == [692, 697, 6, 233, 972]


def test_a_model_without_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="owner--model has 0 classes"):
        ClassTurns("owner--model", 0)
