"""Which of a repo's files is taken for the generator, and which lone components make images."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlers.recognition.packaging import choose, component_of
from manifests.generator import WeightFile


def files(*paths: str) -> list[WeightFile]:
    return [WeightFile(path=path.split("=")[0], size=int(path.partition("=")[2] or 10)) for path in paths]


@pytest.mark.parametrize(
    ("paths", "first", "hints"),
    [
        (
            ["b.safetensors", "a.safetensors", "pytorch_lora_weights.safetensors"],
            "pytorch_lora_weights.safetensors",
            {},
        ),
        (["checkpoint-500/pytorch_lora_weights.safetensors", "z.safetensors"], "z.safetensors", {}),
        (
            ["checkpoint-500/pytorch_lora_weights.safetensors", "checkpoint-1500/pytorch_lora_weights.safetensors"],
            "checkpoint-1500/pytorch_lora_weights.safetensors",
            {},
        ),
        (["style_000001500.safetensors", "style_000000500.safetensors", "style.safetensors"], "style.safetensors", {}),
        (["style-000004.safetensors", "style-000010.safetensors"], "style-000010.safetensors", {}),
        (["style-step00000500.safetensors", "style-step00001000.safetensors"], "style-step00001000.safetensors", {}),
        (
            ["x_2step_lora.safetensors", "x_4step_lora.safetensors", "x_8step_lora.safetensors"],
            "x_4step_lora.safetensors",
            {},
        ),
        (["x_1step.safetensors=90", "x_2step.safetensors=20"], "x_1step.safetensors", {}),
        (["r8.safetensors=80", "r64.safetensors=640"], "r64.safetensors", {}),
        (["big.safetensors=99", "the-repo.safetensors=10"], "the-repo.safetensors", {}),
        (["a.safetensors", "b.safetensors"], "a.safetensors", {}),
        (["a.safetensors", "deep/b.safetensors"], "deep/b.safetensors", {"card": {"weight_name": "b.safetensors"}}),
        (
            ["pytorch_lora_weights.safetensors", "b.safetensors"],
            "b.safetensors",
            {"readme": 'pipe.load_lora_weights("x/y", weight_name="b.safetensors")'},
        ),
    ],
)
def test_which_of_several_files_is_taken(paths: list[str], first: str, hints: dict[str, object]) -> None:
    arguments = {"card": {}, "readme": ""} | hints
    for order in (paths, paths[::-1]):
        chosen = choose(files(*order), "owner/The-Repo", **arguments)  # type: ignore[arg-type]
        assert chosen[0].path == first
        assert len(chosen) == len(paths)


def test_what_is_never_taken() -> None:
    assert choose(files("optimizer.safetensors", "a-00001-of-00002.safetensors", "b.bin"), "o/r", card={}) == []


@given(st.permutations(["a.safetensors=5", "b-000001.safetensors", "c/d.safetensors=7", "e_4steps.safetensors"]))
def test_the_choice_does_not_depend_on_the_order_of_the_listing(paths: list[str]) -> None:
    assert choose(files(*paths), "o/r", card={}) == choose(files(*sorted(paths)), "o/r", card={})


@pytest.mark.parametrize(
    ("class_name", "component"),
    [
        ("UNet2DConditionModel", "unet"),
        ("FluxTransformer2DModel", "transformer"),
        ("SD3Transformer2DModel", "transformer"),
        ("PixArtTransformer2DModel", "transformer"),
        ("AutoencoderKL", None),
        ("ControlNetModel", None),
        ("FluxControlNetModel", None),
        ("MotionAdapter", None),
        ("UNetMotionModel", None),
        ("UNet3DConditionModel", None),
        ("WanTransformer3DModel", None),
        ("T2IAdapter", None),
        (None, None),
        (["a"], None),
    ],
)
def test_components_that_make_images(class_name: object, component: str | None) -> None:
    assert component_of(class_name) == component
