"""Where the value of each sampling parameter came from, as rows say it."""

from collections.abc import Collection, Mapping
from typing import Any

from manifests.generator import GeneratorSpec
from samplers.call_arguments import FORCED, PARAMETER_NAMES

SIGNATURE = "signature"
"""Nobody says: the pipeline's own default."""
DEFAULT = "default"
"""Nobody says: an adapter has its full weight."""
OURS = "commforge"
"""Off in every call: see `samplers.call_arguments.FORCED`."""


def value_sources(
    spec: GeneratorSpec, accepted: Collection[str], complete: Mapping[str, Any], *, scheduler: bool, adapter: bool
) -> dict[str, str]:
    """Return parameter → source, in the words of `SamplingParams.sources`, for all that takes part in the call.

    A value that a spec gives without saying from where has no entry. Parameters rebuilt from a record, whose sources
    are that record's, give the same answer again.

    Args:
        accepted: names of the call's arguments.
        complete: every argument in effect.
        scheduler: the pipeline has one.
        adapter: a weight of an adapter is in effect.
    """
    params, told = spec.params, spec.params.sources
    found: dict[str, str | None] = {}
    for field, argument in PARAMETER_NAMES.items():
        if argument in accepted:
            found[field] = told.get(field, SIGNATURE if getattr(params, field) is None else None)
    if scheduler:
        # Its own repo's, which is the base's for whatever is loaded into one.
        own = "config" if spec.packaging == "pipeline" else "base config"
        found["scheduler"] = told.get("scheduler", own if params.scheduler is None else None)
        found["scheduler_config"] = told.get("scheduler_config") if params.scheduler_config else None
    if params.negative_prompt is not None and "negative_prompt" in accepted:
        found["negative_prompt"] = told.get("negative_prompt")
    if params.trigger_words:
        found["trigger_words"] = told.get("trigger_words")
    if adapter:
        found["adapter_scale"] = told.get("adapter_scale", DEFAULT if params.adapter_scale is None else None)
    for name in complete.keys() - set(PARAMETER_NAMES.values()):
        found[name] = told.get(name, OURS if name in FORCED and name not in params.call_kwargs else None)
    return {name: source for name, source in found.items() if source is not None}
