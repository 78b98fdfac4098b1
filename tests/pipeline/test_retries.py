"""A retried unit is the unit that it was, however far the prompt table grew; one that cannot be is said why."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from manifests.generator import GeneratorSpec
from manifests.prompts import Prompt
from manifests.unit import UnitSpec
from pipeline.config import SampleConfig
from pipeline.plan import GeneratorPlan, plan_generators
from pipeline.retries import not_tried_again, plan_retries
from shards.commit_cache import CommitSummary
from shards.statuses import Reason, Status

SAMPLE = SampleConfig(images_per_generator=10, unit_images=4, checker=None)
GENERATOR = GeneratorSpec(name="g", kind="text-to-image", repo_id="o/g", revision="r")


def _prompts(count: int) -> list[Prompt]:
    """Every third prompt is of the other split."""
    return [
        Prompt(prompt_id=f"p{n}", prompt=f"{n}", prompt_source="caption", split="test" if n % 3 == 0 else "train")
        for n in range(count)
    ]


def _plans(prompts: list[Prompt], generator: GeneratorSpec = GENERATOR) -> dict[str, GeneratorPlan]:
    plans = plan_generators([generator], {"g": "train"}, prompts, [], SAMPLE, None)
    return {plan.generator.name: plan for plan in plans}


def _commit(unit: UnitSpec, prompts: int | None, reason: Reason = Reason.device_oom) -> CommitSummary:
    return CommitSummary(
        unit=unit.unit,
        generation=2,
        generator="g",
        revision="r",
        label=1,
        first=unit.first,
        count=unit.count,
        split=unit.split,
        prompts=prompts,
        retryable=reason.retryable,
        stored=0,
        seconds=0.0,
        counts={str(reason.status): unit.count},
        reasons={str(reason): unit.count},
    )


@given(st.integers(2, 30), st.integers(0, 30))
def test_the_same_units_come_out_after_the_table_grew(before: int, more: int) -> None:
    known = _plans(_prompts(before))["g"]
    units = list(known.units())
    commits = [_commit(unit, len(known.prompts)) for unit in units]
    retries = plan_retries(commits, [Status.oom], _plans(_prompts(before + more)))
    assert retries.refused == {} and retries.images == 10
    tasks = [retry.task() for retry in retries.possible["g"]]
    assert [task.work for task in tasks] == units
    assert {task.generation for task in tasks} == {3}


def test_what_cannot_be_tried_again_is_said() -> None:
    units = list(_plans(_prompts(12))["g"].units())
    plans, grown = _plans(_prompts(12)), _plans(_prompts(20))
    old = [_commit(unit, None) for unit in units]  # a commit that does not say what it was planned from
    assert list(plan_retries(old, [Status.oom], plans).possible) == ["g"]
    assert set(plan_retries(old, [Status.oom], grown).refused.values()) == {
        "it was planned from other prompts, or its generator was described otherwise"
    }
    commits = [_commit(unit, 8) for unit in units]
    assert set(plan_retries(commits, [Status.oom], {}).refused.values()) == {"the catalog has its generator no more"}
    moved = _plans(_prompts(12), GENERATOR.model_copy(update={"revision": "s"}))
    assert set(plan_retries(commits, [Status.oom], moved).refused.values()) == {
        "the catalog has another revision of its generator"
    }
    assert len(plan_retries(commits, [Status.oom], moved).refused) == len(units)


def test_an_emptied_prompt_table_refuses_what_was_planned_from_it() -> None:
    units = list(_plans(_prompts(12))["g"].units())
    for prompts in (None, 8):
        commits = [_commit(unit, prompts) for unit in units]
        retries = plan_retries(commits, [Status.oom], _plans([]))
        assert retries.possible == {}
        assert retries.refused == dict.fromkeys(
            (unit.unit for unit in units), "it was planned from other prompts, or its generator was described otherwise"
        )


def test_only_wanted_statuses_that_a_retry_may_mend_are_tried_again() -> None:
    plans = _plans(_prompts(12))
    first, second, third = plans["g"].units()
    commits = [
        _commit(first, 8),
        replace(_commit(second, 8), counts={"ok": 4}, reasons={"none": 4}),
        _commit(third, 8, Reason.corrupt_weights),
    ]
    retries = plan_retries(commits, [Status.oom, Status.load_failed], plans)
    assert [retry.unit for retry in retries.possible["g"]] == [first.unit] and not retries.refused
    assert plan_retries(commits, [Status.timeout], plans).possible == {}


def test_what_no_retry_can_help_is_counted_by_reason() -> None:
    first, second, third = _plans(_prompts(12))["g"].units()
    commits = [
        _commit(first, 8, Reason.invalid_pipeline),
        _commit(second, 8, Reason.invalid_pipeline),
        _commit(third, 8, Reason.corrupt_weights),
    ]
    hopeless = [
        "8 draws failed with invalid_pipeline, which no retry can help",
        "2 draws failed with corrupt_weights, which no retry can help",
    ]
    assert not_tried_again(commits, [Status.load_failed]) == hopeless
    assert not_tried_again(commits, [Status.oom, Status.load_failed]) == [
        "no draw is oom, so there is nothing to try again",
        *hopeless,
    ]
    assert not_tried_again([], [Status.gated]) == ["no draw is gated, so there is nothing to try again"]
    assert not_tried_again(commits, []) == []


def test_nothing_is_said_of_what_is_tried_again() -> None:
    first, second, _ = _plans(_prompts(12))["g"].units()
    mixed = replace(_commit(second, 8), reasons={"device_oom": 2, "none": 1, "nsfw": 1})
    assert not_tried_again([_commit(first, 8), mixed], [Status.oom]) == []
    assert not_tried_again(
        [_commit(first, 8, Reason.download_failed), _commit(second, 8, Reason.bad_config)], [Status.load_failed]
    ) == ["4 draws failed with bad_config, which no retry can help"]
