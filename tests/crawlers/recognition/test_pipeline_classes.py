"""The table of pipelines against diffusers' own source, read without importing it."""

import ast
import importlib.util
from pathlib import Path

import pytest

from crawlers.parameters.families import FAMILIES
from crawlers.recognition.pipeline_classes import LOADS, NEEDS_ANOTHER_REPO, PIPELINE_CLASSES

ARGUMENT = {
    "steps": "num_inference_steps",
    "guidance_scale": "guidance_scale",
    "size": "height",
    "negative_prompt": "negative_prompt",
}
GUIDANCE_LEFT_ALONE = {"QwenImagePipeline"}
"""Its guidance_scale is for distilled models that do not exist; true_cfg_scale guides."""


def pipelines_folder() -> Path:
    spec = importlib.util.find_spec("diffusers")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "pipelines"


@pytest.fixture(scope="module")
def calls() -> dict[str, set[str]]:
    """Return pipeline class to the names of its call's arguments, inherited calls included."""
    own: dict[str, set[str]] = {}
    bases: dict[str, list[str]] = {}
    for file in pipelines_folder().rglob("pipeline_*.py"):
        text = file.read_text(encoding="utf-8")
        if not any(f"class {name}(" in text for name in PIPELINE_CLASSES):
            continue
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef):
                bases[node.name] = [base.id for base in node.bases if isinstance(base, ast.Name)]
                for method in node.body:
                    if isinstance(method, ast.FunctionDef) and method.name == "__call__":
                        arguments = method.args
                        own[node.name] = {a.arg for a in (*arguments.args, *arguments.kwonlyargs)}
    return {name: own.get(name) or next((own[b] for b in bases[name] if b in own), set()) for name in bases}


@pytest.mark.parametrize("name", sorted(PIPELINE_CLASSES))
def test_the_call_takes_what_the_table_says(name: str, calls: dict[str, set[str]]) -> None:
    if name not in calls:  # renamed since, and still named by old repos
        assert name in {"LuminaText2ImgPipeline", "Lumina2Text2ImgPipeline"}
        return
    entry = PIPELINE_CLASSES[name]
    taken = {key for key, argument in ARGUMENT.items() if argument in calls[name]}
    assert taken - ({"guidance_scale"} if name in GUIDANCE_LEFT_ALONE else set()) == entry.takes
    assert set(FAMILIES[entry.family].call_kwargs) <= calls[name]
    assert ("prompt" in calls[name]) == (entry.kind == "text-to-image")
    assert not calls[name] & {"mask_image", "video", "control_image"}


def test_no_class_is_both_samplable_and_incomplete() -> None:
    assert not PIPELINE_CLASSES.keys() & NEEDS_ANOTHER_REPO.keys()


def test_every_pipeline_that_bins_resolutions_has_binning_off(calls: dict[str, set[str]]) -> None:
    for name, entry in PIPELINE_CLASSES.items():
        if "use_resolution_binning" in calls.get(name, set()):
            assert FAMILIES[entry.family].call_kwargs["use_resolution_binning"] is False, name


def test_what_can_be_loaded_into_a_pipeline_is_what_its_mixins_say() -> None:
    mixins = {"lora": "LoraLoaderMixin", "textual-inversion": "TextualInversionLoaderMixin"}
    mixins["single-file"] = "FromSingleFileMixin"
    assert set(LOADS) == set(mixins)
    bases: dict[str, list[str]] = {}
    for file in pipelines_folder().rglob("pipeline_*.py"):
        text = file.read_text(encoding="utf-8")
        if not any(f"class {name}(" in text for name in PIPELINE_CLASSES):
            continue
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef):
                bases[node.name] = [base.id for base in node.bases if isinstance(base, ast.Name)]
    assert len(PIPELINE_CLASSES.keys() - bases.keys()) <= 2
    for packaging, mixin in mixins.items():
        for name in PIPELINE_CLASSES.keys() & bases.keys():
            own = [*bases[name], *(further for base in bases[name] for further in bases.get(base, []))]
            takes = any(base.endswith(mixin) for base in own)
            # An alias of a class of the table; the library warns and loads the class itself.
            assert (name in LOADS[packaging]) == takes or name == "Lumina2Text2ImgPipeline", (packaging, name)
