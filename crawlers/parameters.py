"""How to call a generator: each value from the best source that tells it, and which source that was.

Order: manifest > card > name > config > family > the call's own signature (the value stays None).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crawlers.distillation import Distillation, named_distillation, scheduler_distillation
from crawlers.families import FAMILIES
from crawlers.family_evidence import Configs
from crawlers.native_resolution import native_resolution
from crawlers.pipeline_classes import ALL_ARGUMENTS
from manifests.generator import SamplingParams

_CARD_KEYS = {
    "num_inference_steps": "steps",
    "guidance_scale": "guidance_scale",
    "width": "width",
    "height": "height",
    "negative_prompt": "negative_prompt",
}
_BOUNDS = {"steps": (1, 5000), "guidance_scale": (0, 100), "width": (8, 8192), "height": (8, 8192)}
_TRAINING_STEPS = 1000
_TRAILING_FAMILIES = frozenset({"sd1", "sd2-base", "sd2-v", "sdxl", "pony", "illustrious", "sdxl-vpred"})
_OWN_SIGMAS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")


@dataclass(frozen=True)
class ParameterEvidence:
    """What is known about a repo when its parameters are resolved.

    Attributes:
        takes: arguments that the pipeline's call accepts, as in `crawlers.pipeline_classes`.
        card: the card's front matter.
        file_names: of the repo, for a number of steps.
        manifest: what the user wrote; every value there wins.
    """

    family: str
    repo_id: str
    takes: frozenset[str] = ALL_ARGUMENTS
    configs: Configs = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)
    file_names: Sequence[str] = ()
    manifest: SamplingParams | None = None


def resolve_parameters(evidence: ParameterEvidence) -> SamplingParams:
    """Return the sampling parameters, with `sources` naming where each value came from.

    `sources` has one entry for each value that is set; those of `call_kwargs` are keyed by the argument's own name.
    """
    values: dict[str, Any] = {}
    call_kwargs: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, key, value in _all_sources(evidence):
        if key in sources or not _accepted(key, source, evidence.takes):
            continue
        (values if key in SamplingParams.model_fields else call_kwargs)[key] = value
        sources[key] = source
    return SamplingParams(**values, call_kwargs=call_kwargs, sources=sources)


def _accepted(key: str, source: str, takes: frozenset[str]) -> bool:
    if source == "manifest":
        return True
    argument = "size" if key in ("width", "height") else key
    return argument not in ALL_ARGUMENTS or argument in takes


def _all_sources(evidence: ParameterEvidence) -> Iterator[tuple[str, str, Any]]:
    """Yield (source, key, value), best source first."""
    yield from _from_manifest(evidence.manifest)
    yield from _from_card(evidence.card)
    by_name = named_distillation(evidence.family, evidence.repo_id, evidence.file_names)
    yield from _from_distillation("name", by_name, evidence)
    own_scheduler = evidence.configs.get("scheduler", {}).get("_class_name")
    by_scheduler = None if by_name else scheduler_distillation(evidence.family, own_scheduler)
    yield from _from_distillation("config", by_scheduler, evidence)
    size = native_resolution(evidence.configs) if FAMILIES[evidence.family].config_tells_size else None
    if size is not None:
        yield from (("config", "width", size[0]), ("config", "height", size[1]))
    yield from _from_family(evidence.family)


def _from_manifest(params: SamplingParams | None) -> Iterator[tuple[str, str, Any]]:
    if params is None:
        return
    for key in ("steps", "guidance_scale", "width", "height", "negative_prompt", "scheduler"):
        if (value := getattr(params, key)) is not None:
            yield "manifest", key, value
    yield from (("manifest", key, value) for key, value in params.call_kwargs.items())


def _from_card(card: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Read `inference: {parameters: ...}`; values that no pipeline could take are passed over."""
    inference = card.get("inference")
    parameters = inference.get("parameters") if isinstance(inference, Mapping) else None
    if not isinstance(parameters, Mapping):
        return
    for card_key, key in _CARD_KEYS.items():
        value = parameters.get(card_key)
        if key == "negative_prompt":
            if isinstance(value, str):
                yield "card", key, value
        elif (number := _number(value, *_BOUNDS[key])) is not None:
            if key == "guidance_scale":
                yield "card", key, number
            elif number == int(number) and (key == "steps" or number % 8 == 0):
                yield "card", key, int(number)


def _number(value: Any, low: float, high: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) and low <= value <= high else None


def _from_distillation(
    source: str, rule: Distillation | None, evidence: ParameterEvidence
) -> Iterator[tuple[str, str, Any]]:
    if rule is None:
        return
    yield source, "steps", rule.steps
    yield source, "guidance_scale", rule.guidance_scale
    own = evidence.configs.get("scheduler", {})
    if rule.scheduler is not None and own.get("_class_name") != rule.scheduler:
        yield source, "scheduler", rule.scheduler
    if rule.trailing and _needs_timesteps(rule, evidence):
        yield source, "timesteps", trailing_timesteps(_steps_in_force(rule, evidence))


def _needs_timesteps(rule: Distillation, evidence: ParameterEvidence) -> bool:
    """True where the scheduler would start anywhere but at the last timestep, and lets the call say which to take."""
    own = evidence.configs.get("scheduler", {})
    chosen = evidence.manifest.scheduler if evidence.manifest is not None else None
    if (chosen or rule.scheduler or own.get("_class_name")) != "EulerDiscreteScheduler":
        return False
    if evidence.family not in _TRAILING_FAMILIES or own.get("timestep_spacing") == "trailing":
        return False
    return not any(own.get(key) for key in _OWN_SIGMAS)


def _steps_in_force(rule: Distillation, evidence: ParameterEvidence) -> int:
    """Return the number of steps that wins, so that timesteps and steps cannot disagree."""
    for _, key, value in (*_from_manifest(evidence.manifest), *_from_card(evidence.card)):
        if key == "steps":
            return int(value)
    return rule.steps


def trailing_timesteps(steps: int) -> list[int]:
    """Return `steps` timesteps of 1,000, evenly spaced and starting at the last: 4 give 999, 749, 499, 249.

    The arithmetic, rounding included, is that of diffusers' schedulers with trailing spacing.
    """
    import numpy as np

    spaced = np.arange(_TRAINING_STEPS, 0, -_TRAINING_STEPS / steps)[:steps].round() - 1
    return [int(step) for step in spaced]


def _from_family(name: str) -> Iterator[tuple[str, str, Any]]:
    family = FAMILIES[name]
    if family.steps is not None:
        yield "family", "steps", family.steps
    if family.guidance_scale is not None:
        yield "family", "guidance_scale", family.guidance_scale
    if family.pixels is not None:
        yield from (("family", "width", family.pixels), ("family", "height", family.pixels))
    if family.negative_prompt is not None:
        yield "family", "negative_prompt", family.negative_prompt
    yield from (("family", key, value) for key, value in family.call_kwargs.items())
