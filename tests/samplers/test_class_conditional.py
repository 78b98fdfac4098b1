"""Which class a draw stands for, and that all get equally many images."""

from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import pytest
from PIL import Image

from manifests.draws import Draw, Draws
from manifests.generator import GeneratorSpec
from manifests.unit import UnitSpec
from samplers.base import Batch, Sampler
from samplers.replay import replay_batch
from samplers.safety_checker import SafetyChecker, SafetyScore
from samplers.unit_drawing import draw_unit
from shards.statuses import Reason, Status, UnitFailure


@pytest.fixture
def number_of(sampler_of: Callable[[str], Sampler], draws_of: Callable[..., tuple[Draw, ...]]) -> Callable[..., int]:
    def number(**fields: Any) -> int:
        sampler: Any = sampler_of("dit")
        return sampler.class_number(draws_of(1)[0].model_copy(update=fields))

    return number


def test_labels_numbers_prompts_and_places(number_of: Callable[..., int]) -> None:
    assert number_of(class_label="golden retriever") == 207
    assert number_of(class_label="tabby cat") == 281
    assert number_of(class_label="42") == 42
    assert number_of(prompt="tabby") == 281
    assert number_of(prompt="a photograph of rain", index=7) == number_of(prompt="", index=7)
    assert number_of(class_label="999", prompt="tabby", index=1) == 999


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


def test_an_unnamed_class_is_written_out(
    sampler_of: Callable[[str], Sampler], draws_of: Callable[..., tuple[Draw, ...]]
) -> None:
    sampler: Any = sampler_of("dit")
    places = {sampler.class_number(draw): draw for draw in draws_of(1000, prompt="")}
    assert places.keys() == set(range(1000))
    assert sampler.settled(places[207]).class_label == "golden retriever"
    assert sampler.settled(places[5]).class_label == "5"
    for number, draw in places.items():
        settled = sampler.settled(draw)
        assert sampler.class_number(settled) == number
        assert settled == draw.model_copy(update={"class_label": settled.class_label})


def test_a_reserve_draw_takes_the_class_that_it_replaces_unless_it_asks_for_one(
    sampler_of: Callable[[str], Sampler], draws_of: Callable[..., tuple[Draw, ...]]
) -> None:
    sampler: Any = sampler_of("dit")
    lost = sampler.settled(draws_of(1, prompt="")[0].model_copy(update={"class_label": "281"}))
    spare = draws_of(1, prompt="")[0].model_copy(update={"index": -1})
    assert sampler.settled(spare, lost).class_label == lost.class_label == "tabby"
    assert sampler.settled(spare.model_copy(update={"class_label": "7"}), lost).class_label == "7"
    assert sampler.settled(spare.model_copy(update={"prompt": "golden retriever"}), lost).class_label == (
        "golden retriever"
    )


def test_a_class_that_is_always_flagged_does_not_use_up_the_reserve(
    sampler_of: Callable[[str], Sampler], draws_of: Callable[..., tuple[Draw, ...]]
) -> None:
    sampler: Any = sampler_of("dit")
    lost = sampler.settled(draws_of(1, prompt="")[0])
    spares = [draws_of(1, prompt="")[0].model_copy(update={"index": -place}) for place in (1, 2)]
    first = sampler.settled(spares[0], lost)
    assert first.class_label == lost.class_label
    assert sampler.settled(spares[1], first) == sampler.settled(spares[1])


class FlagsEveryThird:
    """Flags by turn, so that no class is flagged whatever is drawn of it."""

    def __init__(self) -> None:
        self.scored = 0

    def score(self, image: Image.Image) -> SafetyScore:
        self.scored += 1
        return SafetyScore(0.1, True) if self.scored % 3 == 0 else SafetyScore(-0.1, False)


def test_classes_stay_even_when_images_are_flagged_and_a_batch_replays_from_its_rows(
    sampler_of: Callable[[str], Sampler],
    spec_of: Callable[..., GeneratorSpec],
    unit_of: Callable[..., UnitSpec],
    draws_of: Callable[..., tuple[Draw, ...]],
    rows_of: Callable[..., list[dict[str, Any]]],
) -> None:
    sampler = sampler_of("dit")
    spare = tuple(draw.model_copy(update={"index": -draw.index - 1}) for draw in draws_of(24, first=500, prompt=""))
    unit = unit_of(spec_of("dit"), 6, draws=draws_of(6, prompt=""), batch_size=4)
    unit = unit.model_copy(update={"reserve": Draws.of(spare)})
    drawn = list(draw_unit(unit, sampler, cast(SafetyChecker, FlagsEveryThird())))
    statuses = [image.status for image in drawn]
    assert statuses.count(Status.ok) == 6 and statuses.count(Status.flagged) >= 2
    wanted = Counter(sampler.settled(draw).class_label for draw in unit.draws)
    assert Counter(image.draw.class_label for image in drawn if image.status is Status.ok) == wanted
    last = max(image.batch for image in drawn)
    rows = [row for row in rows_of(unit, drawn, sampler) if row["batch"] == last]
    made = replay_batch(rows, sampler)
    assert [image and image.sha256 for image in made] == [row["sha256"] for row in rows]
