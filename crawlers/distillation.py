"""Distilled models: few steps, little or no guidance, told by the repo's name or by its scheduler.

Signatures and families mislead for them: sampled with the teacher's 50 steps and guidance they make burnt images.
Where the name tells the number of steps, that number is used and never another.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Distillation:
    """How a distilled model is sampled.

    Attributes:
        scheduler: the class it was distilled for; None keeps the repo's own.
        trailing: steps must start from the last timestep (Lin et al. 2024, arXiv:2305.08891).
    """

    method: str
    steps: int
    guidance_scale: float
    scheduler: str | None = None
    trailing: bool = False


_EULER = "EulerDiscreteScheduler"

_NAMED: tuple[tuple[re.Pattern[str], frozenset[str] | None, Distillation], ...] = tuple(
    (re.compile(rf"(?<![a-z]){word}(?![a-z])"), families, rule)
    for word, families, rule in (
        ("lightning", frozenset({"sdxl"}), Distillation("lightning", 4, 0.0, _EULER, trailing=True)),
        ("dmd2?", frozenset({"sd1", "sdxl"}), Distillation("dmd", 4, 0.0, "LCMScheduler")),
        (r"hyper(?:[-_ ]?sd(?:xl)?(?:15)?)?", frozenset({"sd1", "sdxl"}), Distillation("hyper", 8, 0.0, _EULER, True)),
        ("lcm", frozenset({"sd1", "sdxl"}), Distillation("lcm", 4, 1.0, "LCMScheduler")),
        ("turbo", frozenset({"sd1", "sd2-base", "sd2-v", "sdxl"}), Distillation("turbo", 4, 0.0, None, trailing=True)),
        ("turbo", frozenset({"sd3"}), Distillation("turbo", 4, 0.0)),
        ("turbo", frozenset({"z-image-turbo"}), Distillation("turbo", 8, 0.0)),
        ("schnell", frozenset({"flux1-dev", "flux1-schnell"}), Distillation("schnell", 4, 0.0)),
    )
)
"""First match wins: "sdxl-lightning" is lightning even where "turbo" follows."""

_SDXL_RELATIVES = {"pony": "sdxl", "illustrious": "sdxl", "sdxl-vpred": "sdxl"}
_STEPS = re.compile(r"(?<!\d)(\d{1,2})[-_ ]?steps?(?![a-z])")

_BY_SCHEDULER = {
    "LCMScheduler": Distillation("LCMScheduler", 4, 1.0),
    "TCDScheduler": Distillation("TCDScheduler", 4, 0.0),
}


def named_distillation(family: str, repo_name: str, file_names: Sequence[str] = ()) -> Distillation | None:
    """Return the rule that a repo's name calls for, or None.

    Args:
        family: of `crawlers.families`; a word such as "turbo" means nothing in a family that has no such models.
        repo_name: the name without the owner, whose own name says nothing about the model.
        file_names: searched for the number of steps when the repo's name has none.
    """
    name = repo_name.rsplit("/", 1)[-1].lower()
    family = _SDXL_RELATIVES.get(family, family)
    for pattern, families, rule in _NAMED:
        if (families is None or family in families) and pattern.search(name):
            steps = _steps_named(name, file_names)
            return rule if steps is None else _with_steps(rule, steps)
    return None


def scheduler_distillation(family: str, scheduler_class: str | None) -> Distillation | None:
    """Return the rule of a repo whose own scheduler only serves distilled models, or None."""
    if family == "lcm":  # the full model takes guidance as an embedding: its family's own row holds
        return None
    return _BY_SCHEDULER.get(scheduler_class or "")


def _steps_named(name: str, file_names: Sequence[str]) -> int | None:
    """Return the number of steps that the name tells, else the one number that all telling files agree on."""
    if match := _STEPS.search(name):
        return int(match.group(1)) or None
    told = {int(match.group(1)) for file in file_names if (match := _STEPS.search(file.lower()))} - {0}
    return told.pop() if len(told) == 1 else None


def _with_steps(rule: Distillation, steps: int) -> Distillation:
    return Distillation(rule.method, steps, rule.guidance_scale, rule.scheduler, rule.trailing)
