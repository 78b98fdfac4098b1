"""A plan made again, at any moment and in any state, agrees with the first one on what remains."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.draws import Draws
from manifests.generator import GeneratorSpec
from manifests.prompts import Prompt
from manifests.unit import UnitSpec
from pipeline.config import SampleConfig
from pipeline.plan import missing_intervals, plan_generators
from pipeline.prompt_choice import PromptChoice
from shards.commits import Commit

REVISION = "0" * 40


def _generator(name: str = "owner--model", kind: str = "text-to-image") -> GeneratorSpec:
    return GeneratorSpec(name=name, kind=kind, repo_id=name.replace("--", "/"), revision=REVISION)


def _prompts(count: int, split: str = "train") -> list[Prompt]:
    return [
        Prompt(prompt_id=f"p{number}", prompt=f"prompt {number}", prompt_source="caption", split=split)
        for number in range(count)
    ]


def _commit(unit: UnitSpec) -> Commit:
    return Commit.model_construct(
        unit=unit.unit, generator=unit.generator.name, revision=REVISION, first=unit.first, count=unit.count, label=1
    )


def _units(images: int, commits: list[Commit], unit_images: int = 16, prompts: int = 10) -> list[UnitSpec]:
    config = SampleConfig(images_per_generator=images, unit_images=unit_images, reserve_fraction=0.25)
    generator = _generator()
    plans = plan_generators([generator], {generator.name: "train"}, _prompts(prompts), commits, config, None)
    return list(itertools.chain.from_iterable(plan.units() for plan in plans))


def test_units_cover_every_image_once_and_the_last_is_short():
    units = _units(40, [])
    assert [(unit.first, unit.count) for unit in units] == [(0, 16), (16, 16), (32, 8)]
    assert [draw.index for unit in units for draw in unit.draws] == list(range(40))
    assert [len(unit.reserve) for unit in units] == [4, 4, 2]


@given(st.data())
def test_a_killed_run_goes_on_with_the_units_of_the_undisturbed_one(data):
    images = data.draw(st.integers(1, 80))
    undisturbed = _units(images, [])
    places = data.draw(st.sets(st.integers(0, len(undisturbed) - 1)))
    done = [undisturbed[place] for place in places]
    remaining = _units(images, [_commit(unit) for unit in done])
    assert {unit.unit for unit in done} | {unit.unit for unit in remaining} == {unit.unit for unit in undisturbed}
    assert len(done) + len(remaining) == len(undisturbed)


@given(first=st.integers(1, 60), more=st.integers(0, 60), unit_images=st.integers(1, 20))
def test_raising_the_count_keeps_what_is_there_and_adds_the_rest_once(first, more, unit_images):
    before = _units(first, [], unit_images)
    added = _units(first + more, [_commit(unit) for unit in before], unit_images)
    indices = [draw.index for unit in [*before, *added] for draw in unit.draws]
    assert sorted(indices) == list(range(first + more))
    reserves = [draw.index for unit in [*before, *added] for draw in unit.reserve]
    assert len(set(reserves)) == len(reserves)
    assert all(index < 0 for index in reserves)


@given(
    wanted=st.integers(0, 100),
    covered=st.lists(st.tuples(st.integers(0, 100), st.integers(1, 30))),
    unit_images=st.integers(1, 40),
)
def test_missing_intervals_are_exactly_what_is_not_covered(wanted, covered, unit_images):
    taken = {number for start, length in covered for number in range(start, start + length)}
    gaps = missing_intervals(wanted, [(start, start + length) for start, length in covered], unit_images)
    numbers = [number for start, end in gaps for number in range(start, end)]
    assert numbers == [number for number in range(wanted) if number not in taken]
    assert all(0 < end - start <= unit_images for start, end in gaps)
    assert all(start // unit_images == (end - 1) // unit_images for start, end in gaps)


def test_a_unit_id_changes_with_everything_that_affects_its_bytes_and_nothing_else():
    base = _units(8, [])[0]
    other = {
        "batch_size": 2,
        "cpu_threads": 2,
        "dtype": "float16",
        "keep_flagged": True,
        "split": "test",
        "reserve": Draws.of(()),
    }
    ids = [base.model_copy(update={key: value}).unit for key, value in other.items()]
    assert len({base.unit, *ids}) == len(other) + 1
    assert UnitSpec.model_validate_json(base.model_dump_json()).unit == base.unit


def test_generators_get_prompts_of_their_own_split_only():
    generators = [_generator("a--train"), _generator("b--test")]
    prompts = [*_prompts(5), *(p.model_copy(update={"prompt_id": f"t{p.prompt_id}"}) for p in _prompts(5, "test"))]
    config = SampleConfig(images_per_generator=10, unit_images=10)
    plans = plan_generators(generators, {"a--train": "train", "b--test": "test"}, prompts, [], config, None)
    drawn = {plan.split: {draw.prompt_id for unit in plan.units() for draw in unit.draws} for plan in plans}
    assert drawn["train"] == {f"p{n}" for n in range(5)}
    assert drawn["test"] == {f"tp{n}" for n in range(5)}


def test_two_generators_start_at_different_prompts_and_seeds_never_repeat():
    prompts = _prompts(50)
    draws = [
        PromptChoice(_generator(name), prompts).targets(index, index + 1)[0]
        for name in ("a--x", "b--y", "c--z")
        for index in range(50)
    ]
    assert len({draw.prompt_id for draw in draws[::50]}) > 1
    assert len({draw.seed for draw in draws}) == len(draws)


@pytest.mark.parametrize("kind", ["class-conditional", "unconditional"])
def test_kinds_without_text_need_no_prompts(kind):
    choice = PromptChoice(_generator(kind=kind), [])
    draws = [*choice.targets(0, 2), *choice.reserves(0, 1)]
    assert [draw.index for draw in draws] == [0, 1, -1]
    assert len({draw.seed for draw in draws}) == 3


def test_text_to_image_without_prompts_is_refused():
    with pytest.raises(ValueError, match="owner--model"):
        PromptChoice(_generator(), [])
