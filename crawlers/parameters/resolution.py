"""How to call a generator: each value from the best source that tells it, and which source that was.

Order: manifest > card > name > config > family > the call's own signature (the value stays None). For a generator that
is loaded into a base, the base's card and name stand between its own name and the configs: an adapter on a distilled
base is sampled as that base is.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crawlers.parameters.distillation import (
    Distillation,
    adapter_distillation,
    named_distillation,
    scheduler_distillation,
)
from crawlers.parameters.families import FAMILIES
from crawlers.parameters.family_evidence import Configs
from crawlers.parameters.native_resolution import native_resolution
from crawlers.parameters.scheduler_entries import fitting_entries
from crawlers.recognition.pipeline_classes import ALL_ARGUMENTS
from manifests.generator import Packaging, SamplingParams

_CARD_KEYS = {
    "num_inference_steps": "steps",
    "guidance_scale": "guidance_scale",
    "width": "width",
    "height": "height",
    "negative_prompt": "negative_prompt",
}
_BOUNDS = {"steps": (1, 5000), "guidance_scale": (0, 100), "width": (8, 8192), "height": (8, 8192)}
_SCALE_KEYS = ("adapter_scale", "lora_scale")
_LCM_GUIDANCE = 8.5
"""Of a model that takes guidance as an embedding."""


@dataclass(frozen=True)
class AdapterEvidence:
    """What else is known about a generator that is loaded into a base.

    Attributes:
        packaging: learned tokens leave the base's way of sampling as it is; a LoRA may change it.
        weight_name: the file, whose name may say how it was distilled; None for a component in its own layout.
        readme: the card's text.
        trigger_words: the words and who told them.
        base_id: repo id of the base.
        base_card: front matter of the base's card.
    """

    packaging: Packaging
    weight_name: str | None = None
    readme: str = ""
    trigger_words: tuple[tuple[str, ...], str] | None = None
    base_id: str = ""
    base_card: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ParameterEvidence:
    """What is known about a repo when its parameters are resolved.

    Attributes:
        takes: arguments that the pipeline's call accepts, as in `crawlers.recognition.pipeline_classes`.
        card: the card's front matter.
        file_names: of the repo, for a number of steps.
        manifest: what the user wrote; every value there wins.
        adapter: of a generator that is loaded into a base; the configs are then the base's.
    """

    family: str
    repo_id: str
    takes: frozenset[str] = ALL_ARGUMENTS
    configs: Configs = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)
    file_names: Sequence[str] = ()
    manifest: SamplingParams | None = None
    adapter: AdapterEvidence | None = None


def resolve_parameters(evidence: ParameterEvidence) -> SamplingParams:
    """Return the sampling parameters, with `sources` naming where each value came from.

    `sources` has one entry for each value that is set; those of `call_kwargs` are keyed by the argument's own name.
    """
    values: dict[str, Any] = {}
    call_kwargs: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, key, value in _all_sources(evidence):
        if key in sources or not _accepted(key, source, evidence):
            continue
        (values if key in SamplingParams.model_fields else call_kwargs)[key] = value
        sources[key] = source
    return SamplingParams(**values, call_kwargs=call_kwargs, sources=sources)


def _accepted(key: str, source: str, evidence: ParameterEvidence) -> bool:
    if source == "manifest":
        return True
    if key == "adapter_scale":
        return evidence.adapter is not None and evidence.adapter.packaging == "lora" and source != "base card"
    argument = "size" if key in ("width", "height") else key
    return argument not in ALL_ARGUMENTS or argument in evidence.takes


def _all_sources(evidence: ParameterEvidence) -> Iterator[tuple[str, str, Any]]:
    """Yield (source, key, value), best source first."""
    yield from _from_manifest(evidence.manifest)
    yield from _from_card("card", evidence.card)
    if (adapter := evidence.adapter) is None:
        by_name = named_distillation(evidence.family, evidence.repo_id, evidence.file_names)
        yield from _from_distillation("name", by_name, evidence)
    else:
        if adapter.trigger_words is not None and adapter.trigger_words[0]:
            yield adapter.trigger_words[1], "trigger_words", adapter.trigger_words[0]
        by_name = _adapter_rule(evidence, adapter)
        yield from _from_distillation("name", by_name, evidence)
        yield from _from_card("base card", adapter.base_card)
        if by_name is None:
            by_name = named_distillation(evidence.family, adapter.base_id)
            yield from _from_distillation("base name", by_name, evidence)
    own_scheduler = evidence.configs.get("scheduler", {}).get("_class_name")
    by_scheduler = None if by_name else scheduler_distillation(evidence.family, own_scheduler)
    yield from _from_distillation("config", by_scheduler, evidence)
    size = native_resolution(evidence.configs) if FAMILIES[evidence.family].config_tells_size else None
    if size is not None:
        yield from (("config", "width", size[0]), ("config", "height", size[1]))
    yield from _from_family(evidence)


def _adapter_rule(evidence: ParameterEvidence, adapter: AdapterEvidence) -> Distillation | None:
    file = adapter.weight_name or ""
    if adapter.packaging == "textual-inversion":
        return None
    if adapter.packaging == "lora":
        return adapter_distillation(evidence.family, evidence.repo_id, file, adapter.readme)
    stem = file.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    by_file = named_distillation(evidence.family, stem) if stem else None
    return by_file or named_distillation(evidence.family, evidence.repo_id, evidence.file_names)


def _from_manifest(params: SamplingParams | None) -> Iterator[tuple[str, str, Any]]:
    if params is None:
        return
    for key in ("steps", "guidance_scale", "width", "height", "negative_prompt", "scheduler", "adapter_scale"):
        if (value := getattr(params, key)) is not None:
            yield "manifest", key, value
    for key in ("scheduler_config", "trigger_words"):
        if value := getattr(params, key):
            yield "manifest", key, value
    yield from (("manifest", key, value) for key, value in params.call_kwargs.items())


def _from_card(source: str, card: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Read `inference: {parameters: ...}`; values that no pipeline could take are passed over."""
    inference = card.get("inference")
    parameters = inference.get("parameters") if isinstance(inference, Mapping) else None
    if not isinstance(parameters, Mapping):
        return
    for card_key, key in _CARD_KEYS.items():
        value = parameters.get(card_key)
        if key == "negative_prompt":
            if isinstance(value, str):
                yield source, key, value
        elif (number := _number(value, *_BOUNDS[key])) is not None:
            if key == "guidance_scale":
                yield source, key, number
            elif number == int(number) and (key == "steps" or number % 8 == 0):
                yield source, key, int(number)
    nested = parameters.get("cross_attention_kwargs", parameters.get("joint_attention_kwargs"))
    scales = [parameters.get(key) for key in _SCALE_KEYS] + [
        nested.get("scale") if isinstance(nested, Mapping) else None
    ]
    if (scale := next((n for value in scales if (n := _number(value, -10, 10)) is not None), None)) is not None:
        yield source, "adapter_scale", scale


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
    embedded = rule.method == "lcm" and evidence.configs.get("unet", {}).get("time_cond_proj_dim") is not None
    yield source, "guidance_scale", _LCM_GUIDANCE if embedded else rule.guidance_scale
    own = evidence.configs.get("scheduler", {})
    if rule.scheduler is not None and own.get("_class_name") != rule.scheduler:
        yield source, "scheduler", rule.scheduler
    if config := _scheduler_config(rule, evidence):
        yield source, "scheduler_config", config
    yield from ((source, key, value) for key, value in rule.call_kwargs.items())
    if rule.adapter_scale is not None and evidence.adapter is not None and source == "name":
        yield source, "adapter_scale", rule.adapter_scale


def _chosen_scheduler(evidence: ParameterEvidence) -> str | None:
    return evidence.manifest.scheduler if evidence.manifest is not None else None


def _scheduler_config(rule: Distillation, evidence: ParameterEvidence) -> dict[str, Any]:
    """Return what the scheduler in force lacks of what the rule asks for; nothing for one that the user chose."""
    own = evidence.configs.get("scheduler", {})
    ruled = rule.scheduler or own.get("_class_name")
    if _chosen_scheduler(evidence) not in (None, ruled):
        return {}
    wanted = fitting_entries(
        ruled, dict(rule.scheduler_config) | ({"timestep_spacing": "trailing"} if rule.trailing else {})
    )
    return {key: value for key, value in wanted.items() if key not in own or own[key] != value}


def _from_family(evidence: ParameterEvidence) -> Iterator[tuple[str, str, Any]]:
    family = FAMILIES[evidence.family]
    if family.steps is not None:
        yield "family", "steps", family.steps
    if family.guidance_scale is not None:
        yield "family", "guidance_scale", family.guidance_scale
    if family.pixels is not None:
        yield from (("family", "width", family.pixels), ("family", "height", family.pixels))
    if family.negative_prompt is not None:
        yield "family", "negative_prompt", family.negative_prompt
    yield from (("family", key, value) for key, value in family.call_kwargs.items())
    own = evidence.configs.get("scheduler", {})
    wanted = fitting_entries(_chosen_scheduler(evidence) or own.get("_class_name"), family.scheduler_config)
    if wanted := {key: value for key, value in wanted.items() if key not in own}:
        yield "family", "scheduler_config", wanted
