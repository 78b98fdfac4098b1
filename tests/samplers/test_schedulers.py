"""Schedulers are replaced as asked: the very timesteps, the config recorded, and a mistake named."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from manifests.generator import GeneratorSpec
from samplers.base import Batch, Sampler
from shards.statuses import Reason, UnitFailure

Specs = Callable[..., GeneratorSpec]
Load = Callable[[GeneratorSpec], Sampler]
TRAIN_STEPS = 1000


def _timesteps(sampler: Any, draws_of: Any) -> list[float]:
    """The timesteps that the denoiser is really called with."""
    seen: list[float] = []
    denoiser = getattr(sampler._pipeline, "unet", None) or sampler._pipeline.transformer
    hook = denoiser.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(
            float((kwargs["timestep"] if "timestep" in kwargs else args[1]).flatten()[0])
        ),
        with_kwargs=True,
    )
    sampler.sample(Batch.padded(draws_of(1), 1))
    hook.remove()
    return seen


def _lcm(steps: int, original: int = 50) -> list[int]:
    """Luo et al. 2023: evenly chosen among the 50 steps of the teacher's DDIM, from the last one down."""
    teacher = np.arange(1, original + 1) * (TRAIN_STEPS // original) - 1
    chosen = np.floor(np.linspace(0, original, num=steps, endpoint=False)).astype(int)
    return [int(step) for step in teacher[::-1][chosen]]


def _trailing(steps: int) -> list[int]:
    """Lin et al. 2024, table 2: from the last timestep down, so that sampling starts at pure noise."""
    return [int(step) for step in np.round(np.arange(TRAIN_STEPS, 0, -TRAIN_STEPS / steps)) - 1]


def _leading(steps: int, offset: int = 1) -> list[int]:
    return [int(step) + offset for step in (np.arange(steps) * (TRAIN_STEPS // steps))[::-1]]


@pytest.mark.parametrize(
    ("scheduler", "config", "expected"),
    [
        (None, {}, _leading(4)),  # the toy's own: DDIM, leading, offset 1
        (None, {"timestep_spacing": "trailing"}, _trailing(4)),
        (None, {"steps_offset": 0}, _leading(4, offset=0)),
        ("LCMScheduler", {}, _lcm(4)),
        ("LCMScheduler", {"original_inference_steps": 100}, _lcm(4, 100)),
        ("TCDScheduler", {}, _lcm(4)),
        ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}, _trailing(4)),
        ("DDIMScheduler", {"timestep_spacing": "trailing"}, _trailing(4)),
    ],
)
def test_the_denoiser_is_called_at_the_published_timesteps(
    scheduler: str | None, config: dict[str, Any], expected: list[int], spec_of: Specs, load: Load, draws_of: Any
) -> None:
    sampler = load(spec_of("sd", steps=4, scheduler=scheduler, scheduler_config=config))
    assert _timesteps(sampler, draws_of) == expected
    record = json.loads(sampler.call_record(1))
    assert record["scheduler"]["class"] == (scheduler or "DDIMScheduler") == sampler.scheduler_name
    assert record["scheduler"]["config"].items() >= (config | {"beta_end": 0.012}).items()
    assert record["load"].get("scheduler_config", {}) == config


def test_the_shift_of_flow_matching(spec_of: Specs, load: Load, draws_of: Any) -> None:
    """Esser et al. 2024: sigma' = s sigma / (1 + (s - 1) sigma); the toy's shift is 3."""

    def shifted(shift: float) -> list[float]:
        low = shift / TRAIN_STEPS / (1 + (shift - 1) / TRAIN_STEPS)  # of the smallest sigma
        sigmas = np.linspace(1.0, low, 4)
        return [float(s) for s in TRAIN_STEPS * shift * sigmas / (1 + (shift - 1) * sigmas)]

    assert _timesteps(load(spec_of("sd3", steps=4)), draws_of) == pytest.approx(shifted(3.0), rel=1e-5)
    shifted_by_one = load(spec_of("sd3", steps=4, scheduler_config={"shift": 1.0}))
    assert _timesteps(shifted_by_one, draws_of) == pytest.approx(shifted(1.0), rel=1e-5)


@pytest.mark.parametrize(
    ("family", "params", "reason", "named"),
    [
        ("sd", {"scheduler_config": {"spacing": "trailing"}}, Reason.bad_config, "DDIMScheduler has no spacing"),
        ("sd3", {"scheduler_config": {"timestep_spacing": "trailing"}}, Reason.bad_config, "no timestep_spacing"),
        ("sd", {"scheduler_config": {"beta_schedule": "steep"}}, Reason.bad_config, "steep"),
        ("sd", {"scheduler": "NoSuchScheduler"}, Reason.pipeline_class, "NoSuchScheduler"),
    ],
)
def test_a_mistake_is_named(
    family: str, params: dict[str, Any], reason: Reason, named: str, spec_of: Specs, load: Load
) -> None:
    with pytest.raises(UnitFailure) as failure:
        load(spec_of(family, **params))
    assert failure.value.reason is reason and named in failure.value.detail
