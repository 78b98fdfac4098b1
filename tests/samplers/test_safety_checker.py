"""Our scores flag what diffusers' own checker flags, whoever shares the batch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from transformers import CLIPImageProcessor

from samplers.component_store import ComponentStore
from samplers.safety_checker import SafetyChecker
from shards.statuses import Reason, UnitFailure


def _images(count: int) -> list[Image.Image]:
    random = np.random.default_rng(3)
    images = []
    for _ in range(count):
        small = Image.fromarray(random.integers(0, 256, (4, 6, 3), dtype=np.uint8))
        images.append(small.resize((60, 48), Image.Resampling.BICUBIC))
    return images


@pytest.fixture(scope="module")
def medians(checker_folder: Callable[..., Path]) -> tuple[float, float]:
    """The thresholds, for concepts and for special care, that half of the images exceed; computed by hand."""
    folder = checker_folder(0.0)
    model = StableDiffusionSafetyChecker.from_pretrained(folder)
    pixels = CLIPImageProcessor.from_pretrained(folder)(_images(80), return_tensors="pt").pixel_values
    with torch.no_grad():
        embeddings = model.visual_projection(model.vision_model(pixels).pooler_output)
        highest = [
            torch.nn.functional.cosine_similarity(embeddings[:, None], concepts[None], dim=2).amax(dim=1)
            for concepts in (model.concept_embeds, model.special_care_embeds)
        ]
    return float(highest[0].median()), float(highest[1].median())


@pytest.mark.parametrize("offset", [-0.02, 0.0, 0.01])
def test_flags_equal_diffusers_forward(
    offset: float, medians: tuple[float, float], checker_folder: Callable[..., Path]
) -> None:
    folder = checker_folder(medians[0] + offset, medians[1])
    images = _images(80)
    model = StableDiffusionSafetyChecker.from_pretrained(folder)
    pixels = CLIPImageProcessor.from_pretrained(folder)(images, return_tensors="pt").pixel_values
    _, flags = model(clip_input=pixels, images=torch.zeros(len(images), 1))
    checker = SafetyChecker.load(folder, "r", "cpu")
    scores = [checker.score(image) for image in images]
    assert [score.flagged for score in scores] == flags
    assert 0 < sum(flags) < 80
    assert all(score.flagged == (score.score > 0) for score in scores)


def test_special_care_lowers_the_bar(medians: tuple[float, float], checker_folder: Callable[..., Path]) -> None:
    with_care = SafetyChecker.load(checker_folder(medians[0], medians[1]), "r", "cpu")
    without = SafetyChecker.load(checker_folder(medians[0], 2.0), "r", "cpu")
    raised = [round(with_care.score(image).score - without.score(image).score, 3) for image in _images(80)]
    assert set(raised) == {0.0, 0.01}
    assert 30 < raised.count(0.01) < 50


def test_any_mode_is_scored(checker_folder: Callable[[float], Path]) -> None:
    checker = SafetyChecker.load(checker_folder(0.0), "r", "cpu")
    grey = _images(1)[0].convert("L")
    assert checker.score(grey) == checker.score(grey.convert("RGB"))


def test_the_model_is_shared_and_failures_are_typed(checker_folder: Callable[[float], Path]) -> None:
    store = ComponentStore()
    first, second = (SafetyChecker.load(checker_folder(0.25), "r", "cpu", components=store) for _ in range(2))
    assert first._model is second._model and store.count == 1
    broken = checker_folder(0.25)
    (broken / "model.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(UnitFailure) as failure:
        SafetyChecker.load(broken, "r", "cpu")
    assert failure.value.reason is Reason.corrupt_weights
