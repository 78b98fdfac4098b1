"""Which family a repo belongs to, told by its pipeline class, its configs, and last by its name and base models.

Configs win over names: an uploader may call anything SDXL, but a UNet's cross-attention width does not lie.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crawlers.parameters.families import FAMILIES
from crawlers.recognition.model_index import ModelIndex
from crawlers.recognition.pipeline_classes import PIPELINE_CLASSES
from manifests.generator import Architecture, GeneratorKind

Configs = Mapping[str, Mapping[str, Any]]
"""Component name to its config, as far as the repo has one."""

_NAMED_SDXL = (("pony", re.compile(r"\bpony")), ("illustrious", re.compile(r"illustrious|noobai")))


@dataclass(frozen=True)
class FamilyMatch:
    """A family and what told it."""

    kind: GeneratorKind
    family: str
    architecture: Architecture
    evidence: str


def identify_family(index: ModelIndex, configs: Configs, names: Sequence[str] = ()) -> FamilyMatch:
    """Return the family of a pipeline whose class is in `PIPELINE_CLASSES`.

    Args:
        index: the pipeline.
        configs: of its denoiser, VAE and scheduler.
        names: the repo's id and those of its base models.
    """
    entry = PIPELINE_CLASSES[index.pipeline_class]
    family, told = _refine(entry.family, index, configs, " ".join(names).lower())
    architecture = FAMILIES[family].architecture
    evidence = [f"class {index.pipeline_class}", *told]
    if architecture == "PixelDiff" and (vae := index.component("vae", "vqvae", "movq")) is not None:
        architecture = "LatentDiff"
        evidence.append(f"has {vae.name} ({vae.class_name})")
    elif architecture == "LatentDiff" and index.component("vae", "vqvae", "movq") is None:
        evidence.append("no VAE of its own in model_index")
    return FamilyMatch(entry.kind, family, architecture, "; ".join(evidence))


def _refine(family: str, index: ModelIndex, configs: Configs, names: str) -> tuple[str, list[str]]:
    scheduler, unet = configs.get("scheduler", {}), configs.get("unet", {})
    prediction = scheduler.get("prediction_type")
    if family == "sd1":
        return _stable_diffusion(unet.get("cross_attention_dim"), prediction)
    if family == "sdxl":
        return _sdxl(str(scheduler.get("_class_name", "")), prediction, configs.get("vae", {}), names)
    if family == "flux1-dev" and (transformer := configs.get("transformer")) is not None:
        embeds = bool(transformer.get("guidance_embeds", False))
        return ("flux1-dev" if embeds else "flux1-schnell"), [f"transformer.guidance_embeds {str(embeds).lower()}"]
    if family == "flux2-klein-base":
        distilled = bool(index.options.get("is_distilled", False))
        return ("flux2-klein" if distilled else family), [f"model_index.is_distilled {str(distilled).lower()}"]
    if family == "z-image" and "turbo" in names:
        return "z-image-turbo", ["name says turbo"]
    if family == "hidream":
        for variant in ("fast", "dev"):
            if re.search(rf"[-_]{variant}\b", names):
                return f"hidream-{variant}", [f"name says {variant}"]
    return family, []


def _stable_diffusion(width: Any, prediction: Any) -> tuple[str, list[str]]:
    if width == 1024:
        told = [f"unet.cross_attention_dim {width}", f"prediction_type {prediction or 'epsilon'}"]
        return ("sd2-v" if prediction == "v_prediction" else "sd2-base"), told
    return "sd1", [] if width is None else [f"unet.cross_attention_dim {width}"]


def _sdxl(scheduler: str, prediction: Any, vae: Mapping[str, Any], names: str) -> tuple[str, list[str]]:
    if scheduler.startswith("EDM") or vae.get("latents_mean"):
        return "playground-v2.5", [f"scheduler {scheduler}" if scheduler.startswith("EDM") else "vae.latents_mean"]
    if prediction == "v_prediction":
        return "sdxl-vpred", ["prediction_type v_prediction"]
    for family, pattern in _NAMED_SDXL:
        if match := pattern.search(names):
            return family, [f"name says {match.group()}"]
    return "sdxl", []
