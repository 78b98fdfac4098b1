"""Drawing a unit: batches, the reserve, guards, and the same bytes every time."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from manifests.draws import Draw, Draws
from manifests.generator import GeneratorSpec
from manifests.unit import UnitSpec
from samplers.base import Batch, SampledImage, Sampler
from samplers.component_store import ComponentStore
from samplers.registry import load_sampler
from samplers.safety_checker import SafetyChecker
from samplers.unit_drawing import DrawnImage, draw_unit
from shards.statuses import Reason, Status, UnitFailure

FAMILIES = ["sd", "lcm", "sdxl", "pixart", "sd3", "dit", "ddpm"]
Units = Callable[..., UnitSpec]
Specs = Callable[..., GeneratorSpec]
Samplers = Callable[[str], Sampler]


class ScriptedSampler:
    """Noise for each seed, except one flat colour for the seeds of `flat`; keeps the batches it was given."""

    scheduler_name: str | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    width: int | None = None
    height: int | None = None
    negative_prompt: str | None = None
    watermark: bool | None = False

    def __init__(self, flat: frozenset[int] = frozenset(), same: frozenset[int] = frozenset()) -> None:
        self.flat, self.same = flat, same
        self.batches: list[Batch] = []
        self.replacements: list[tuple[int, int]] = []

    def sample(self, batch: Batch) -> list[SampledImage]:
        self.batches.append(batch)
        return [SampledImage(self._image(draw.seed), None, draw.prompt, False) for draw in batch.draws[: batch.real]]

    def _image(self, seed: int) -> Image.Image:
        if seed in self.flat:
            return Image.new("RGB", (8, 8), (seed % 256, 0, 0))
        random = np.random.default_rng(10**6 if seed in self.same else seed)
        return Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))

    def settled(self, draw: Draw, replaced: Draw | None = None) -> Draw:
        self.replacements += [] if replaced is None else [(draw.index, replaced.index)]
        return draw

    def call_record(self, batch_size: int) -> str:
        return "{}"

    def close(self) -> None: ...


def _unit(count: int, reserve: int, batch_size: int) -> UnitSpec:
    def draw(index: int, seed: int) -> Draw:
        return Draw(index=index, seed=seed, prompt_id=f"p{index}", prompt=f"prompt {index}", prompt_source="caption")

    return UnitSpec(
        generator=GeneratorSpec(name="noise", kind="unconditional", repo_id="toy/noise"),
        first=0,
        count=count,
        draws=tuple(draw(number, number) for number in range(count)),
        reserve=tuple(draw(-number - 1, count + number) for number in range(reserve)),
        batch_size=batch_size,
        cpu_threads=1,
    )


# Batches and the reserve


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 12), st.integers(0, 12), st.integers(1, 5), st.sets(st.integers(0, 24)))
def test_rounds_replace_exactly_what_is_missing(count: int, reserve: int, size: int, flat: set[int]) -> None:
    unit = _unit(count, reserve, size)
    sampler = ScriptedSampler(frozenset(flat))
    drawn = list(draw_unit(unit, sampler, None))

    # An independent account: which draws each round takes, given what is flat.
    rounds, spare = [list(unit.draws)], list(unit.reserve)
    good = sum(draw.seed not in flat for draw in unit.draws)
    while good < count and spare:
        taken, spare = spare[: count - good], spare[count - good :]
        rounds.append(taken)
        good += sum(draw.seed not in flat for draw in taken)
    batches = [taken[start : start + size] for taken in rounds for start in range(0, len(taken), size)]

    assert [list(batch.draws[: batch.real]) for batch in sampler.batches] == batches
    for batch in sampler.batches:
        assert len(batch.draws) == size
        assert set(batch.draws[batch.real :]) <= {batch.draws[batch.real - 1]}
    assert [(image.draw, image.batch, image.slot) for image in drawn] == [
        (draw, number, slot) for number, batch in enumerate(batches) for slot, draw in enumerate(batch)
    ]
    assert [image.status is Status.ok for image in drawn] == [image.draw.seed not in flat for image in drawn]
    assert sum(image.status is Status.ok for image in drawn) == min(count, good)


def test_each_reserve_draw_stands_in_for_one_image_in_their_order() -> None:
    sampler = ScriptedSampler(frozenset({1, 3, 6}))
    list(draw_unit(_unit(5, 6, 2), sampler, None))  # 1 and 3 fail; 5 replaces 1; 6 replaces 3 and fails; 7 replaces it
    assert sampler.replacements == [(-1, 1), (-2, 3), (-3, -2)]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(0, 6), st.integers(1, 6), st.integers(1, 6), st.sets(st.integers(0, 14)))
def test_a_halved_batch_is_numbered_and_padded_by_its_own_size(
    count: int, reserve: int, planned: int, size: int, flat: set[int]
) -> None:
    halved, whole = ScriptedSampler(frozenset(flat)), ScriptedSampler(frozenset(flat))
    drawn = list(draw_unit(_unit(count, reserve, planned), halved, None, batch_size=size))
    assert drawn == list(draw_unit(_unit(count, reserve, size), whole, None))
    assert halved.batches == whole.batches and all(len(batch.draws) == size for batch in halved.batches)


def test_a_spent_reserve_leaves_a_shortage() -> None:
    drawn = list(draw_unit(_unit(4, 2, 2), ScriptedSampler(frozenset({0, 1, 2, 4})), None))
    assert [image.draw.index for image in drawn] == [0, 1, 2, 3, -1, -2]
    assert [image.status for image in drawn].count(Status.ok) == 2


def test_progress_counts_draws() -> None:
    seen: list[int] = []
    list(draw_unit(_unit(5, 3, 2), ScriptedSampler(frozenset({4})), None, on_progress=seen.append))
    assert seen == [2, 4, 5, 6]


def test_an_abandoned_drawing_ends_cleanly() -> None:
    drawing: Any = draw_unit(_unit(8, 0, 2), ScriptedSampler(), None)
    assert next(drawing).slot == 0
    drawing.close()


# Guards


def test_constant_images_are_degenerate_and_not_stored() -> None:
    first, *rest = draw_unit(_unit(3, 0, 3), ScriptedSampler(frozenset({0})), None)
    assert (first.status, first.reason) == (Status.degenerate, Reason.constant)
    assert first.image is None and first.format is None
    assert first.sha256 is not None and (first.width, first.height, first.mode) == (8, 8, "RGB")
    assert all(image.reason is Reason.none for image in rest)


def test_the_second_of_two_equal_images_is_repeated_even_batches_later() -> None:
    drawn = list(draw_unit(_unit(6, 2, 2), ScriptedSampler(same=frozenset({1, 5, 6})), None))
    assert [image.reason for image in drawn] == [
        *[Reason.none] * 5,
        Reason.repeated,
        Reason.repeated,
        Reason.none,
    ]
    assert drawn[5].sha256 == drawn[1].sha256 and drawn[5].image is None


def test_a_vae_that_overflows_gives_nan(
    model_folder: Callable[[str], Path], spec_of: Specs, unit_of: Units, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(model_folder("sd"), tmp_path / "sd"))
    sampler: Any = load_sampler(spec_of("sd"), folder, dtype="float32", device="cpu", components=ComponentStore())
    with torch.no_grad():
        sampler._pipeline.vae.decoder.conv_in.weight.fill_(float("inf"))
    drawn = list(draw_unit(unit_of(spec_of("sd"), 2, reserve=1), sampler, None))
    assert [(image.status, image.reason) for image in drawn] == [(Status.degenerate, Reason.nan)] * 3
    for image in drawn:
        assert image.image is image.sha256 is image.phash is image.width is image.mode is image.nsfw_score is None


def test_a_dead_decoder_gives_constant_images(load: Callable[..., Any], spec_of: Specs, unit_of: Units) -> None:
    sampler = load(spec_of("sd"))
    with torch.no_grad():
        sampler._pipeline.vae.decoder.conv_out.weight.zero_()
    (image,) = draw_unit(unit_of(spec_of("sd"), 1), sampler, None)
    assert image.reason is Reason.constant


def test_a_decoder_that_whispers_gives_nearly_constant_images(
    load: Callable[..., Any], spec_of: Specs, unit_of: Units
) -> None:
    sampler = load(spec_of("sd"))
    with torch.no_grad():
        sampler._pipeline.vae.decoder.conv_out.weight.mul_(0.01)
    drawn = list(draw_unit(unit_of(spec_of("sd"), 2, reserve=1), sampler, None))
    assert [image.reason for image in drawn] == [Reason.near_constant] * 3
    assert all(image.image is None and image.sha256 is not None for image in drawn)


def test_a_model_that_ignores_its_noise_repeats_itself(
    load: Callable[..., Any], spec_of: Specs, unit_of: Units
) -> None:
    """The toy DDPM predicts the image itself: at the last step nothing else counts."""
    sampler = load(spec_of("ddpm"))
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    sampler._pipeline.unet.conv_out.register_forward_hook(lambda module, given, made: picture.expand_as(made).clone())
    drawn = list(draw_unit(unit_of(spec_of("ddpm"), 3, reserve=2), sampler, None))
    assert [image.reason for image in drawn] == [Reason.none, *[Reason.repeated] * 4]


# The safety checker


@pytest.fixture(scope="module")
def checked(
    checker_folder: Callable[..., Path], sampler_of: Samplers, spec_of: Specs, unit_of: Units
) -> tuple[UnitSpec, SafetyChecker]:
    """A unit and a checker that flags about half of its images."""
    unit = unit_of(spec_of("sd"), 6, reserve=12, batch_size=4)
    neutral = SafetyChecker.load(checker_folder(0.0), "r", "cpu")
    everything = unit.model_copy(
        update={"draws": Draws.of([*unit.draws, *unit.reserve]), "reserve": Draws.of(()), "count": 18}
    )
    scores = [image.nsfw_score or 0.0 for image in draw_unit(everything, sampler_of("sd"), neutral)]
    return unit, SafetyChecker.load(checker_folder(float(np.median(scores))), "r", "cpu")


def test_flagged_images_are_replaced_in_order(checked: tuple[UnitSpec, SafetyChecker], sampler_of: Samplers) -> None:
    unit, checker = checked
    drawn = list(draw_unit(unit, sampler_of("sd"), checker))
    statuses = [image.status for image in drawn]
    assert statuses.count(Status.ok) == 6 and statuses.count(Status.flagged) >= 1
    expected = [draw.index for draw in (*unit.draws, *unit.reserve)][: len(drawn)]
    assert [image.draw.index for image in drawn] == expected
    assert drawn[-1].status is Status.ok
    for image in drawn:
        assert image.nsfw_flag is (image.status is Status.flagged)
        assert image.nsfw_score is not None and (image.nsfw_score > 0) is image.nsfw_flag
        assert (image.image is None) is image.nsfw_flag and (image.format is None) is image.nsfw_flag
        assert image.sha256 is not None and image.phash is not None


def test_the_checker_changes_no_byte_and_flagged_bytes_can_be_kept(
    checked: tuple[UnitSpec, SafetyChecker], sampler_of: Samplers
) -> None:
    unit, checker = checked
    plain = {image.draw.index: image.image for image in draw_unit(unit, sampler_of("sd"), None)}
    kept = list(draw_unit(unit.model_copy(update={"keep_flagged": True}), sampler_of("sd"), checker))
    assert any(image.status is Status.flagged for image in kept[:6])
    assert [image.image for image in kept[:6]] == [plain[image.draw.index] for image in kept[:6]]
    assert all(image.format == "PNG" for image in kept)


# Bytes


def _facts(image: DrawnImage) -> tuple[Any, ...]:
    return image.draw.index, image.batch, image.slot, image.reason, image.image, image.sha256, image.phash


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_unit_gives_the_same_bytes(family: str, sampler_of: Samplers, spec_of: Specs, unit_of: Units) -> None:
    unit = unit_of(spec_of(family), 3)
    used = sampler_of(family)
    list(draw_unit(unit_of(spec_of(family), 2, batch_size=3), used, None))
    first, again = list(draw_unit(unit, used, None)), list(draw_unit(unit, used, None))
    assert [_facts(image) for image in first] == [_facts(image) for image in again]
    assert len({image.sha256 for image in first}) == 3
    for image in first:
        assert image.status is Status.ok and image.image is not None
        picture = Image.open(io.BytesIO(image.image))
        assert (
            (picture.width, picture.height, picture.mode) == (image.width, image.height, image.mode) == (64, 64, "RGB")
        )


def test_a_draw_does_not_depend_on_earlier_batches(sampler_of: Samplers, spec_of: Specs, unit_of: Units) -> None:
    """A unit's short last batch equals the same draws sampled first, in a batch that somebody padded by hand."""
    unit = unit_of(spec_of("sd"), 5, batch_size=3)
    tail = [image for image in draw_unit(unit, sampler_of("sd"), None) if image.batch == 1]
    draws = [image.draw for image in tail]
    by_hand = unit.model_copy(update={"draws": Draws.of([*draws, draws[-1]]), "count": 3})
    replayed = list(draw_unit(by_hand, sampler_of("sd"), None))
    assert [image.sha256 for image in replayed[:2]] == [image.sha256 for image in tail]


# Prompts and failures


def test_a_long_prompt_is_recorded_as_cut(sampler_of: Samplers, spec_of: Specs, unit_of: Units, draws_of: Any) -> None:
    long = draws_of(1, prompt="a red cat on a table " * 30)
    cut, whole = draw_unit(unit_of(spec_of("sd"), 2, draws=(*long, *draws_of(1, first=1))), sampler_of("sd"), None)
    assert cut.truncated and long[0].prompt.startswith(cut.prompt_sent or "?")
    assert not whole.truncated and whole.prompt_sent == whole.draw.prompt
    (free,) = draw_unit(unit_of(spec_of("ddpm"), 1), sampler_of("ddpm"), None)
    assert free.prompt_sent is None and free.truncated is False


def test_negative_prompts_reach_the_model(load: Callable[..., Sampler], spec_of: Specs, unit_of: Units) -> None:
    spec = spec_of("sd", negative_prompt="blurred, dark")
    sampler = load(spec)
    assert sampler.negative_prompt == "blurred, dark"
    (with_negative,) = draw_unit(unit_of(spec, 1), sampler, None)
    (plain,) = draw_unit(unit_of(spec_of("sd"), 1), load(spec_of("sd")), None)
    assert with_negative.sha256 != plain.sha256
    assert load(spec_of("lcm", negative_prompt="blurred")).negative_prompt is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("out of memory"), Reason.device_oom),
        (MemoryError(), Reason.host_oom),
        (RuntimeError("out of memory, says a liar"), Reason.sampling_error),
        (KeyError("x"), Reason.sampling_error),
    ],
)
def test_failures_in_a_batch_are_typed(
    error: Exception, reason: Reason, load: Callable[..., Any], spec_of: Specs, unit_of: Units
) -> None:
    sampler = load(spec_of("ddpm"))

    def fail(*_: object) -> None:
        raise error

    sampler._pipeline.unet.register_forward_pre_hook(fail)
    with pytest.raises(UnitFailure, match=type(error).__name__) as failure:
        list(draw_unit(unit_of(spec_of("ddpm"), 1), sampler, None))
    assert failure.value.reason is reason


def test_a_size_that_the_model_cannot_make_fails_by_name(
    load: Callable[..., Any], spec_of: Specs, unit_of: Units
) -> None:
    spec = spec_of("sd", width=63, height=64)
    with pytest.raises(UnitFailure, match="ValueError") as failure:
        list(draw_unit(unit_of(spec, 1), load(spec), None))
    assert failure.value.reason is Reason.sampling_error
