"""Replace a pipeline's scheduler, or entries of its config: distilled models need one that their repo often lacks."""

import inspect
from collections.abc import Mapping
from typing import Any

import diffusers

from samplers.failures import load_failures
from shards.statuses import Reason, UnitFailure


def replace_scheduler(pipeline: Any, name: str | None, entries: Mapping[str, Any]) -> None:
    """Give `pipeline` the scheduler class `name` (None: keep its own) with its config, `entries` replacing the repo's.

    Entries that the old class leaves at its defaults take the new class's defaults, as diffusers does it.

    Raises:
        UnitFailure: pipeline_class, when there is no such scheduler or the pipeline has none; bad_config, when the
            scheduler's config has no such entry or refuses a value.
    """
    if name is None and not entries:
        return
    current = getattr(pipeline, "scheduler", None)
    if current is None:
        raise UnitFailure(Reason.pipeline_class, f"{type(pipeline).__name__} has no scheduler that could be replaced")
    type_: Any = type(current) if name is None else getattr(diffusers, name, None)
    if type_ is None or diffusers.SchedulerMixin not in getattr(type_, "__mro__", ()):
        raise UnitFailure(Reason.pipeline_class, f"{name} is not a scheduler of the installed diffusers")
    known = set(inspect.signature(type_.__init__).parameters) - {"self", "kwargs"}
    unknown = sorted(set(entries) - known)
    if unknown:
        raise UnitFailure(
            Reason.bad_config, f"scheduler_config: {type_.__name__} has no {', '.join(unknown)}; it has {sorted(known)}"
        )
    if type_ is type(current) and not entries:
        return
    try:
        with load_failures(f"scheduler {type_.__name__}"):
            pipeline.scheduler = type_.from_config(current.config, **entries)
    except UnitFailure as failure:
        # What a scheduler's constructor refuses is a value in its config.
        if failure.reason is not Reason.invalid_pipeline:
            raise
        raise UnitFailure(Reason.bad_config, failure.detail) from failure


def marked_prediction(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scheduler entries that a checkpoint in one file asks for by the marker tensors `v_pred` and `ztsnr`.

    SDXL checkpoints that predict velocity carry them, since nothing else in the file tells.
    """
    if "v_pred" not in keys:
        return {}
    entries: dict[str, Any] = {"prediction_type": "v_prediction"}
    if "ztsnr" in keys:
        entries |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return entries
