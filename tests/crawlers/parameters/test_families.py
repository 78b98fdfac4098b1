"""The family table: size, steps, guidance and arguments of every family that models are known of."""

from typing import Any

import pytest

from crawlers.parameters.families import FAMILIES
from crawlers.parameters.resolution import ParameterEvidence, resolve_parameters
from manifests.generator import SamplingParams


def resolve(family: str, repo_id: str = "owner/model", **evidence: Any) -> SamplingParams:
    return resolve_parameters(ParameterEvidence(family, repo_id, **evidence))


@pytest.mark.parametrize(
    ("family", "pixels", "steps", "guidance", "call_kwargs"),
    [
        ("sd1", 512, 50, 7.5, {}),
        ("sd2-base", 512, 50, 7.5, {}),
        ("sd2-v", 768, 50, 7.5, {}),
        ("sdxl", 1024, 50, 5.0, {}),
        ("sdxl-vpred", 1024, 28, 5.0, {"guidance_rescale": 0.7}),
        ("pony", 1024, 25, 7.0, {}),
        ("illustrious", 1024, 28, 6.0, {}),
        ("lcm", 512, 4, 8.5, {}),
        ("playground-v2.5", 1024, 50, 3.0, {}),
        ("sd3", 1024, 28, 7.0, {}),
        ("flux1-dev", 1024, 28, 3.5, {}),
        ("flux1-schnell", 1024, 4, 0.0, {"max_sequence_length": 256}),
        ("flux2-klein", 1024, 4, 1.0, {}),
        ("flux2-klein-base", 1024, 50, 4.0, {}),
        ("chroma", 1024, 40, 3.0, {}),
        ("pixart-alpha", 1024, 20, 4.5, {"use_resolution_binning": False}),
        ("pixart-sigma", 1024, 20, 4.5, {"use_resolution_binning": False}),
        ("sana", 1024, 20, 4.5, {"use_resolution_binning": False}),
        ("sana-sprint", 1024, 2, 4.5, {"use_resolution_binning": False}),
        ("kolors", 1024, 25, 6.5, {}),
        ("kandinsky3", 1024, 25, 3.0, {}),
        ("deepfloyd-if", 64, 100, 7.0, {}),
        ("auraflow", 1024, 50, 3.5, {}),
        ("hidream", 1024, 50, 5.0, {}),
        ("hidream-dev", 1024, 28, 0.0, {}),
        ("hidream-fast", 1024, 16, 0.0, {}),
        ("qwen-image", 1024, 50, None, {"true_cfg_scale": 4.0}),
        ("z-image", 1024, 50, 4.0, {}),
        ("z-image-turbo", 1024, 8, 0.0, {}),
        ("lumina2", 1024, 30, 4.0, {"max_sequence_length": 256}),
        ("cogview4", 1024, 50, 5.0, {}),
        ("dit", 256, 50, 4.0, {}),
        ("ddpm", None, 1000, None, {}),
    ],
)
def test_the_family_table(
    family: str, pixels: int | None, steps: int, guidance: float | None, call_kwargs: dict[str, Any]
) -> None:
    params = resolve(family)
    assert (params.width, params.height, params.steps, params.guidance_scale) == (pixels, pixels, steps, guidance)
    assert params.call_kwargs == call_kwargs
    assert params.negative_prompt == (" " if family == "qwen-image" else None)
    euler = {"scheduler": {"_class_name": "EulerDiscreteScheduler"}}
    assert bool(resolve(family, configs=euler).scheduler_config) == (family == "sdxl-vpred")


def test_every_value_has_a_source_in_every_family() -> None:
    for family in FAMILIES:
        params = resolve(family)
        values = params.model_dump(exclude={"sources", "call_kwargs"})
        named = {key for key, value in values.items() if value not in (None, (), {})}
        assert set(params.sources) == named | set(params.call_kwargs), family


def test_v_prediction_of_sdxl_needs_its_schedule() -> None:
    """Zero-terminal-SNR and trailing spacing, wherever the repo's own scheduler config does not speak of them."""
    wanted = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    for name in ("EulerDiscreteScheduler", "DDIMScheduler"):
        assert resolve("sdxl-vpred", configs={"scheduler": {"_class_name": name}}).scheduler_config == wanted
    # A scheduler that cannot do it would refuse the entry.
    heun = resolve("sdxl-vpred", configs={"scheduler": {"_class_name": "HeunDiscreteScheduler"}})
    assert "rescale_betas_zero_snr" not in heun.scheduler_config
    own = {"_class_name": "EulerDiscreteScheduler", "prediction_type": "v_prediction", "timestep_spacing": "leading"}
    params = resolve("sdxl-vpred", configs={"scheduler": own})
    assert params.scheduler_config == {"rescale_betas_zero_snr": True}
    assert params.sources["scheduler_config"] == "family"
