"""The size that a model was made for, as its configs tell it, and where they mislead."""

from typing import Any

import pytest

from crawlers.parameters.native_resolution import native_resolution
from crawlers.parameters.resolution import ParameterEvidence, resolve_parameters
from manifests.generator import SamplingParams


def resolve(family: str, repo_id: str = "owner/model", **evidence: Any) -> SamplingParams:
    return resolve_parameters(ParameterEvidence(family, repo_id, **evidence))


@pytest.mark.parametrize(
    ("configs", "size"),
    [
        ({"unet": {"sample_size": 64}, "vae": {"block_out_channels": [1, 1, 1, 1]}}, (512, 512)),
        ({"unet": {"sample_size": 8}, "vae": {"block_out_channels": [1, 1]}}, (16, 16)),
        ({"unet": {"sample_size": [96, 64]}, "vae": {"block_out_channels": [1] * 4}}, (512, 768)),
        ({"transformer": {"sample_size": 32}, "vae": {"encoder_block_out_channels": [1] * 6}}, (1024, 1024)),
        ({"transformer": {"sample_size": 16}, "vae": {"temperal_downsample": [0, 1, 1]}}, (128, 128)),
        ({"unet": {"sample_size": 32}, "vqvae": {"block_out_channels": [1, 1, 1]}}, (128, 128)),
        ({"unet": {"sample_size": 64}}, (64, 64)),  # pixels
        ({"transformer": {"in_channels": 64}, "vae": {"block_out_channels": [1] * 4}}, None),  # FLUX does not say
        ({"unet": {"sample_size": 64}, "vae": {}}, None),
        ({"unet": {"sample_size": "64"}}, None),
        ({"unet": {"sample_size": 8192}, "vae": {"block_out_channels": [1] * 4}}, None),
        ({}, None),
    ],
)
def test_native_resolution(configs: dict[str, Any], size: tuple[int, int] | None) -> None:
    assert native_resolution(configs) == size


@pytest.mark.parametrize(
    ("family", "name", "sample_size", "blocks", "expected"),
    [
        ("sdxl", "stabilityai/sdxl-turbo", 64, 4, (512, 4, 0.0)),
        ("sd2-base", "stabilityai/sd-turbo", 64, 4, (512, 4, 0.0)),
        ("pixart-alpha", "x/PixArt-XL-2-512x512", 64, 4, (512, 20, 4.5)),
        ("sd2-v", "x/sd2", 96, 4, (768, 50, 7.5)),
        ("kolors", "Kwai-Kolors/Kolors-diffusers", 128, 4, (1024, 25, 6.5)),
    ],
)
def test_the_size_that_a_config_tells_wins_over_the_table(
    family: str, name: str, sample_size: int, blocks: int, expected: tuple[int, int, float]
) -> None:
    part = "transformer" if family.startswith("pixart") else "unet"
    configs = {part: {"sample_size": sample_size}, "vae": {"block_out_channels": [1] * blocks}}
    params = resolve(family, name, configs=configs)
    assert (params.width, params.steps, params.guidance_scale) == expected


def test_a_config_that_misleads_does_not_tell_the_size() -> None:
    configs = {"transformer": {"sample_size": 64}, "vae": {"block_out_channels": [1] * 4}}
    params = resolve("auraflow", configs=configs)
    assert (params.width, params.sources["width"]) == (1024, "family")
