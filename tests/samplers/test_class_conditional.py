"""Which class a draw stands for."""

from collections.abc import Callable
from typing import Any

import pytest

from manifests.unit import Draw
from samplers.base import Batch, Sampler
from shards.statuses import Reason, UnitFailure


@pytest.fixture
def number_of(sampler_of: Callable[[str], Sampler], draws_of: Callable[..., tuple[Draw, ...]]) -> Callable[..., int]:
    def number(**fields: Any) -> int:
        sampler: Any = sampler_of("dit")
        return sampler.class_number(draws_of(1)[0].model_copy(update=fields))

    return number


def test_labels_numbers_prompts_and_seeds(number_of: Callable[..., int]) -> None:
    assert number_of(class_label="golden retriever") == 207
    assert number_of(class_label="tabby cat") == 281
    assert number_of(class_label="42") == 42
    assert number_of(prompt="tabby") == 281
    assert number_of(prompt="", seed=5_123) == 123
    assert number_of(prompt="a photograph of rain", seed=7) == number_of(prompt="", seed=1_007) == 7
    assert number_of(class_label="999", prompt="tabby", seed=1) == 999


@pytest.mark.parametrize("label", ["1000", "-1", "dinosaur"])
def test_a_class_that_the_model_lacks_is_refused(label: str, number_of: Callable[..., int]) -> None:
    with pytest.raises(UnitFailure, match="no class") as failure:
        number_of(class_label=label)
    assert failure.value.reason is Reason.call_signature


def test_the_class_makes_the_image_and_is_recorded(
    sampler_of: Callable[[str], Sampler], draws_of: Callable[..., tuple[Draw, ...]]
) -> None:
    sampler = sampler_of("dit")
    (draw,) = draws_of(1)
    dog, again, cat = (draw.model_copy(update={"class_label": label}) for label in ("207", "golden retriever", "281"))
    (first,), (second,), (third,) = (sampler.sample(Batch.padded([d], 2)) for d in (dog, again, cat))
    assert first.image is not None and second.image is not None and third.image is not None
    assert first.image.tobytes() == second.image.tobytes() != third.image.tobytes()
    assert (first.prompt_sent, third.prompt_sent) == ("207 golden retriever", "281 tabby")
    assert sampler.sample(Batch.padded([draw.model_copy(update={"class_label": "5"})], 2))[0].prompt_sent == "5"
