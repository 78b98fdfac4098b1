"""Our own safety checker: the published weights of Stable Diffusion's, scoring every generator's images alike.

Pipelines are loaded without theirs, which would blacken what it flags and be missing from most families. The rule is
the published one (CompVis/stable-diffusion-safety-checker, as diffusers runs it): the cosine of the image's CLIP
embedding to each of 17 concepts, less the concept's threshold, plus 0.01 when one of three special-care concepts
exceeds its own; rounded to three decimals; flagged when any is above 0.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from transformers import CLIPImageProcessor

from manifests.generator import Dtype
from samplers.component_store import ComponentStore
from samplers.failures import load_failures
from samplers.model_folder import Component, find_weights, read_json
from samplers.module_loading import load_module

_SPECIAL_CARE = 0.01
_DECIMALS = 3


@dataclass(frozen=True)
class SafetyScore:
    """`score` is the highest concept score; `flagged` when it is above 0."""

    score: float
    flagged: bool


class SafetyChecker:
    """Scores images one at a time, so that a score does not depend on which images share its batch."""

    def __init__(self, model: StableDiffusionSafetyChecker, processor: CLIPImageProcessor, revision: str) -> None:
        self.revision = revision
        self._model = model
        self._processor = processor
        # The thresholds are fixed, so they are read once: on a GPU each read would wait for it.
        self._thresholds = model.concept_embeds_weights.detach().cpu().float().numpy()
        self._special_thresholds = model.special_care_embeds_weights.detach().cpu().float().numpy()

    @classmethod
    def load(
        cls,
        folder: Path,
        revision: str,
        device: str,
        dtype: Dtype = "float32",
        components: ComponentStore | None = None,
    ) -> Self:
        """Load the checker from its repo's files; with `components`, share it with whoever loads it again.

        Raises:
            UnitFailure: missing_file, bad_config, corrupt_weights or invalid_pipeline.
        """
        read_json(folder / "config.json")
        weights = find_weights(folder, None, "safety checker")
        component = Component("safety checker", StableDiffusionSafetyChecker, folder, weights)
        with load_failures("safety checker"):
            processor = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
        if components is None:
            return cls(load_module(component, dtype, device), processor, revision)
        key = f"{component.content_key(folder, {})} {dtype} {device}"
        return cls(components.fetch(key, lambda: load_module(component, dtype, device)), processor, revision)

    @torch.no_grad()
    def score(self, image: Image.Image) -> SafetyScore:
        """Score one image of any size and mode."""
        pixels = self._processor(images=[image.convert("RGB")], return_tensors="pt").pixel_values
        weight = self._model.visual_projection.weight
        pooled = self._model.vision_model(pixels.to(weight.device, weight.dtype))[1]
        embedding = self._model.visual_projection(pooled)
        special = self._cosines(embedding, self._model.special_care_embeds) - self._special_thresholds
        adjustment = _SPECIAL_CARE if bool((np.round(special, _DECIMALS) > 0).any()) else 0.0
        concepts = self._cosines(embedding, self._model.concept_embeds) - self._thresholds + adjustment
        score = float(np.round(concepts, _DECIMALS).max())
        return SafetyScore(score, score > 0)

    @staticmethod
    def _cosines(embedding: torch.Tensor, concepts: torch.Tensor) -> np.ndarray:
        unit = torch.nn.functional.normalize
        return torch.mm(unit(embedding), unit(concepts).t())[0].cpu().float().numpy()
