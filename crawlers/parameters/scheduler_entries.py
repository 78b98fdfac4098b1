"""Which entries a scheduler's config may be given: a class refuses those that it does not know.

Read from the constructors of diffusers 0.42.
"""

from collections.abc import Mapping
from typing import Any

_RESCALING = frozenset(
    {
        "DDIMScheduler",
        "DDPMScheduler",
        "DPMSolverMultistepScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "LCMScheduler",
        "TCDScheduler",
        "UniPCMultistepScheduler",
    }
)
_SPACED = _RESCALING | {
    "DEISMultistepScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
}
_SHIFTED = frozenset({"FlowMatchEulerDiscreteScheduler"})

TAKEN_BY: Mapping[str, frozenset[str]] = {
    "prediction_type": _SPACED
    | {"DPMSolverSinglestepScheduler", "EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"},
    "timestep_spacing": _SPACED,
    "rescale_betas_zero_snr": _RESCALING,
    "base_shift": _SHIFTED,
    "max_shift": _SHIFTED,
    "shift_terminal": _SHIFTED,
}
"""Entry to the scheduler classes that know it, as far as the families and distillations here speak of it."""


def fitting_entries(class_name: Any, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return those entries that a scheduler of this class takes; none where the class is not known."""
    return {key: value for key, value in wanted.items() if class_name in TAKEN_BY[key]}
