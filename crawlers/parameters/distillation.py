"""Distilled models: few steps, little or no guidance, told by the repo's name or by its scheduler.

Signatures and families mislead for them: sampled with the teacher's 50 steps and guidance they make burnt images.
Where the name tells the number of steps, that number is used and never another.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Distillation:
    """How a distilled model is sampled.

    Attributes:
        scheduler: the class it was distilled for; None keeps the repo's own.
        trailing: steps must start from the last timestep (Lin et al. 2024, arXiv:2305.08891).
        call_kwargs: further call arguments that its authors give.
        scheduler_config: further entries of the scheduler's config that its authors give.
        adapter_scale: of an adapter that is not to be applied in full.
    """

    method: str
    steps: int
    guidance_scale: float
    scheduler: str | None = None
    trailing: bool = False
    call_kwargs: Mapping[str, Any] = field(default_factory=dict)
    scheduler_config: Mapping[str, Any] = field(default_factory=dict)
    adapter_scale: float | None = None


_EULER = "EulerDiscreteScheduler"
_HYPER = r"hyper(?:[-_ ]?(?:sd(?:xl)?(?:15)?|flux))?"
# The shift that the Qwen-Image-Lightning adapters were distilled with: 3 at every size.
_SHIFT_3 = {"base_shift": math.log(3), "max_shift": math.log(3), "shift_terminal": None}

_NAMED: tuple[tuple[re.Pattern[str], frozenset[str], Distillation], ...] = tuple(
    (re.compile(rf"(?<![a-z]){word}(?![a-z])"), frozenset(families), rule)
    for word, families, rule in (
        ("lightning", {"sdxl"}, Distillation("lightning", 4, 0.0, _EULER, trailing=True)),
        (
            "lightning",
            {"qwen-image"},
            Distillation("lightning", 8, 1.0, call_kwargs={"true_cfg_scale": 1.0}, scheduler_config=_SHIFT_3),
        ),
        ("dmd2?", {"sd1", "sdxl"}, Distillation("dmd", 4, 0.0, "LCMScheduler")),
        (_HYPER, {"sd1", "sdxl"}, Distillation("hyper", 8, 0.0, _EULER, trailing=True)),
        (_HYPER, {"flux1-dev"}, Distillation("hyper", 8, 3.5, adapter_scale=0.125)),
        ("tcd", {"sd1", "sdxl"}, Distillation("tcd", 4, 0.0, "TCDScheduler", call_kwargs={"eta": 0.3})),
        ("lcm", {"sd1", "sdxl"}, Distillation("lcm", 4, 1.0, "LCMScheduler")),
        ("turbo", {"sd1", "sd2-base", "sd2-v", "sdxl"}, Distillation("turbo", 4, 0.0, None, trailing=True)),
        ("turbo", {"sd3"}, Distillation("turbo", 4, 0.0)),
        ("turbo", {"z-image-turbo"}, Distillation("turbo", 8, 0.0)),
        ("turbo", {"flux1-dev"}, Distillation("turbo", 8, 3.5)),
        ("schnell", {"flux1-dev", "flux1-schnell"}, Distillation("schnell", 4, 0.0)),
    )
)
"""First match wins: "sdxl-lightning" is lightning even where "turbo" follows."""

_WORDS_OF_THE_LANGUAGE = frozenset({"lightning", "hyper", "turbo"})
"""Methods whose names are also what a style or a thing may be called: an adapter must say its steps besides."""
_SDXL_RELATIVES = {"pony": "sdxl", "illustrious": "sdxl", "sdxl-vpred": "sdxl"}
_STEPS = re.compile(r"(?<!\d)(\d{1,2})[-_ ]?steps?(?![a-z])")
_CODE_STEPS = re.compile(r"num_inference_steps\s*=\s*(\d{1,4})\b")
_CODE_GUIDANCE = re.compile(r"guidance_scale\s*=\s*(\d{1,2}(?:\.\d{1,3})?)\b")
_FEW_STEPS = 12

_BY_SCHEDULER = {
    "LCMScheduler": Distillation("LCMScheduler", 4, 1.0),
    "TCDScheduler": Distillation("TCDScheduler", 4, 0.0),
}


def named_distillation(family: str, repo_name: str, file_names: Sequence[str] = ()) -> Distillation | None:
    """Return the rule that a repo's name calls for, or None.

    Args:
        family: of `families`; a word such as "turbo" means nothing in a family that has no such models.
        repo_name: the name without the owner, whose own name says nothing about the model.
        file_names: searched for the number of steps when the repo's name has none.
    """
    name = repo_name.rsplit("/", 1)[-1].lower()
    rule = _rule_for(name, family)
    steps = _steps_named(name, file_names)
    return rule if rule is None or steps is None else replace(rule, steps=steps)


def adapter_distillation(family: str, repo_name: str, weight_name: str, readme: str = "") -> Distillation | None:
    """Return the rule that an adapter calls for whose base becomes a distilled model by it, or None.

    The file's own name is asked first: such repos hold adapters for several families and numbers of steps. Steps come
    from the file's name, the repo's, or the one number that all code in the card's text agrees on, as does guidance.
    """
    file = weight_name.rsplit("/", 1)[-1].rsplit(".", 1)[0].lower()
    name = repo_name.rsplit("/", 1)[-1].lower()
    rule = _rule_for(file, family) or _rule_for(name, family)
    if rule is None:
        return None
    told = {int(number) for number in _CODE_STEPS.findall(readme)}
    code_steps = told.pop() if len(told) == 1 else None
    if code_steps is not None and not 0 < code_steps <= _FEW_STEPS:
        code_steps = None
    steps = _steps_named(file) or _steps_named(name) or code_steps
    if rule.method in _WORDS_OF_THE_LANGUAGE and steps is None:
        return None
    guidances = {float(number) for number in _CODE_GUIDANCE.findall(readme)}
    if code_steps is not None and len(guidances) == 1:
        rule = replace(rule, guidance_scale=guidances.pop())
    return rule if steps is None else replace(rule, steps=steps)


def _rule_for(name: str, family: str) -> Distillation | None:
    family = _SDXL_RELATIVES.get(family, family)
    return next((rule for pattern, families, rule in _NAMED if family in families and pattern.search(name)), None)


def scheduler_distillation(family: str, scheduler_class: str | None) -> Distillation | None:
    """Return the rule of a repo whose own scheduler only serves distilled models, or None."""
    if family == "lcm":  # the full model takes guidance as an embedding: its family's own row holds
        return None
    return _BY_SCHEDULER.get(scheduler_class or "")


def _steps_named(name: str, file_names: Sequence[str] = ()) -> int | None:
    """Return the number of steps that the name tells, else the one number that all telling files agree on."""
    if match := _STEPS.search(name):
        return int(match.group(1)) or None
    told = {int(match.group(1)) for file in file_names if (match := _STEPS.search(file.lower()))} - {0}
    return told.pop() if len(told) == 1 else None
