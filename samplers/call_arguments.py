"""The arguments of a pipeline's call: only what its signature takes, and a record that is complete.

The record holds defaults too, since another library version may change them, and it can be given back as
`SamplingParams` to make the same call again.
"""

import inspect
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from manifests.generator import SamplingParams
from shards.statuses import Reason, UnitFailure

PARAMETER_NAMES = {
    "steps": "num_inference_steps",
    "guidance_scale": "guidance_scale",
    "width": "width",
    "height": "height",
}
"""Field of SamplingParams -> name of the call's argument."""

_RESERVED = frozenset({"generator", "latents", "output_type", "return_dict", "num_images_per_prompt"})
FORCED: dict[str, Any] = {
    # Renders at the nearest of a fixed list of sizes and resizes back: resampling traces that the model never made.
    "use_resolution_binning": False,
    # Rewrites the prompt, but only where two further libraries happen to be installed.
    "clean_caption": False,
}
"""Arguments that are off in every call that takes them, unless a generator's parameters name them."""


@dataclass(frozen=True)
class CallArguments:
    """`given` is passed to the pipeline; `complete` is the JSON-ready record of every argument in effect; `names` are
    those of all arguments that the call takes."""

    given: dict[str, Any]
    complete: dict[str, Any]
    names: frozenset[str] = frozenset()

    def accepts(self, name: str) -> bool:
        """True when the call takes an argument of this name."""
        return name in self.names


def bind_arguments(call: Callable[..., Any], params: SamplingParams, supplied: frozenset[str]) -> CallArguments:
    """Fit `params` to the signature of `call`; the sampler itself passes the arguments in `supplied`.

    A named parameter that the call does not take is left out: families differ in what they have. An entry of
    `params.call_kwargs` is a request by name, so one that cannot be met is a failure.

    Raises:
        UnitFailure: call_signature, when the call does not take an entry of call_kwargs or needs more than is given.
    """
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(call).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    ours = supplied | _RESERVED
    refused = sorted(name for name in params.call_kwargs if name not in parameters or name in ours)
    if refused:
        raise UnitFailure(Reason.call_signature, f"the pipeline's call does not take {', '.join(refused)}")
    wanted = {argument: getattr(params, field) for field, argument in PARAMETER_NAMES.items()}
    wanted = {name: value for name, value in wanted.items() if value is not None and name in parameters}
    wanted |= {name: value for name, value in FORCED.items() if name in parameters}
    wanted |= params.call_kwargs
    given = {
        name: _as_declared(value, parameters[name])
        for name, value in wanted.items()
        if name in FORCED or _json_ready(value) != _json_ready(parameters[name].default)
    }
    absent = sorted(
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty and name not in given and name not in ours
    )
    if absent:
        raise UnitFailure(Reason.call_signature, f"the pipeline's call also needs {', '.join(absent)}")
    complete = {}
    for name, parameter in parameters.items():
        value = given.get(name, parameter.default)
        if name not in ours and not (value is None and parameter.default is None):
            complete[name] = _json_ready(value)
    return CallArguments(given, complete, frozenset(parameters))


def params_from_record(
    call: dict[str, Any], scheduler: str | None, negative_prompt: str | None, sources: dict[str, str]
) -> SamplingParams:
    """Turn a recorded call back into parameters: `bind_arguments` of the same pipeline makes the same call of them."""
    named = {field: call.get(argument) for field, argument in PARAMETER_NAMES.items()}
    return SamplingParams.model_validate(
        {
            **named,
            "scheduler": scheduler,
            "negative_prompt": negative_prompt,
            "call_kwargs": {name: value for name, value in call.items() if name not in PARAMETER_NAMES.values()},
            "sources": sources,
        }
    )


def scheduler_record(scheduler: Any) -> dict[str, Any]:
    """A scheduler's class and config, JSON-ready. Private keys are left out: one is a set in random order."""
    config = {key: _json_ready(value) for key, value in scheduler.config.items() if not key.startswith("_")}
    return {"class": type(scheduler).__name__, "config": config}


def _json_ready(value: Any) -> Any:
    """`value` as JSON holds it; what JSON cannot hold becomes its text."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): _json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_ready(item) for item in value]
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return repr(value)


def _as_declared(value: Any, parameter: inspect.Parameter) -> Any:
    """YAML and JSON have no tuples, and some pipelines add theirs to another tuple."""
    annotation = str(parameter.annotation).lower()
    if isinstance(value, list) and (
        isinstance(parameter.default, tuple) or ("tuple" in annotation and "list" not in annotation)
    ):
        return tuple(value)
    return value


def canonical(record: dict[str, Any]) -> str:
    """JSON with one spelling, for a row."""
    return json.dumps(record, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
