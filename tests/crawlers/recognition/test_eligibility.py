"""Verdicts on pipelines and licences."""

from typing import Any

import pytest

from crawlers.recognition.eligibility import LicenceRule, Verdict, judge_pipeline
from crawlers.recognition.model_index import BadModelIndexError, parse_model_index
from crawlers.recognition.pipeline_classes import NEEDS_ANOTHER_REPO

UNET = {"unet": ["diffusers", "UNet2DConditionModel"]}


@pytest.mark.parametrize(
    ("content", "paths", "reason", "detail"),
    [
        ({"_class_name": "StableDiffusionXLPipeline", **UNET}, [], "ok", ""),
        ({"_class_name": "StableDiffusionXLPipeline", **UNET}, ["pipeline.py"], "ok", ""),  # never loaded
        ({"_class_name": ["mine", "MyPipeline"], **UNET}, ["mine.py"], "remote_code", "mine.py"),
        ({"_class_name": ["mine", "StableDiffusionPipeline"], **UNET}, ["mine.py"], "remote_code", "mine.py"),
        (
            {"_class_name": "StableDiffusionPipeline", "unet": ["my_unet", "MyUNet"]},
            ["unet/my_unet.py"],
            "remote_code",
            "unet/my_unet.py",
        ),
        ({"_class_name": "MyPipeline", **UNET}, ["pipeline.py"], "remote_code", "defined in the repo"),
        ({"_class_name": "MyPipeline", **UNET}, [], "unsupported_pipeline", "MyPipeline"),
        ({"_class_name": "StableDiffusionInpaintPipeline", **UNET}, [], "unsupported_pipeline", "Inpaint"),
        ({"_class_name": "StableCascadeDecoderPipeline", **UNET}, [], "unsupported_pipeline", "another repo"),
    ],
)
def test_pipelines(content: dict[str, Any], paths: list[str], reason: str, detail: str) -> None:
    verdict = judge_pipeline(parse_model_index(content), paths, code_allowed=False)
    assert verdict.reason == reason
    assert detail in (verdict.detail or "")


@pytest.mark.parametrize("name", sorted(NEEDS_ANOTHER_REPO))
def test_a_pipeline_of_which_a_part_is_elsewhere_says_which(name: str) -> None:
    verdict = judge_pipeline(parse_model_index({"_class_name": name, **UNET}), [], code_allowed=False)
    assert verdict == Verdict("unsupported_pipeline", f"{name}: {NEEDS_ANOTHER_REPO[name]}")


def test_code_that_a_manifest_allows_does_not_stop_a_known_pipeline() -> None:
    index = parse_model_index({"_class_name": "StableDiffusionPipeline", "unet": ["my_unet", "MyUNet"]})
    assert judge_pipeline(index, ["unet/my_unet.py"], code_allowed=True).eligible


@pytest.mark.parametrize(
    "content",
    [
        [],
        "StableDiffusionPipeline",
        None,
        {},
        {"_class_name": 7, **UNET},
        {"_class_name": ["one"], **UNET},
        {"_class_name": "StableDiffusionPipeline"},
        {"_class_name": "StableDiffusionPipeline", "unet": ["UNet2DConditionModel"]},
    ],
)
def test_what_is_no_pipeline_description(content: Any) -> None:
    with pytest.raises(BadModelIndexError):
        parse_model_index(content)


def test_settings_beside_the_components_are_kept_apart() -> None:
    index = parse_model_index(
        {"_class_name": "Flux2KleinPipeline", **UNET, "is_distilled": True, "vae": [None, None], "sizes": [1, 2, 3]}
    )
    assert [part.name for part in index.components] == ["unet"]
    assert index.options == {"is_distilled": True, "sizes": [1, 2, 3]}


@pytest.mark.parametrize(
    ("allow", "deny", "names", "eligible"),
    [
        ((), (), [], True),
        (("mit",), (), ["MIT"], True),
        (("mit",), (), [], False),
        (("mit",), (), ["openrail"], False),
        (("creativeml-*",), (), ["creativeml-openrail-m"], True),
        ((), ("cc-by-nc*",), ["cc-by-nc-4.0"], False),
        (("*",), ("*-non-commercial-*",), ["other", "flux-1-dev-non-commercial-license"], False),
        (("other",), (), ["other", "some-name"], True),
    ],
)
def test_licences(allow: tuple[str, ...], deny: tuple[str, ...], names: list[str], eligible: bool) -> None:
    verdict = LicenceRule(allow, deny).verdict(names)
    assert verdict.eligible is eligible
    assert verdict.reason == ("ok" if eligible else "licence_denied")


def test_reasons_are_a_closed_list() -> None:
    with pytest.raises(ValueError, match="not a catalog reason"):
        Verdict("broken")


@pytest.mark.parametrize(
    ("named", "paths", "eligible"),
    [
        ({}, [], False),
        ({"text_encoder_4": [None, None]}, [], False),
        ({"text_encoder_4": ["transformers", "LlamaForCausalLM"]}, ["text_encoder_4/README.md"], False),
        ({"text_encoder_4": ["transformers", "LlamaForCausalLM"]}, ["text_encoder_4/config.json"], True),
    ],
    ids=["not named", "null", "named and absent", "there"],
)
def test_a_network_that_authors_leave_to_another_repo_is_missed_before_anything_is_fetched(
    named: dict[str, list[str | None]], paths: list[str], eligible: bool
) -> None:
    index = parse_model_index({"_class_name": "HiDreamImagePipeline", "transformer": ["diffusers", "X"], **named})
    verdict = judge_pipeline(index, paths, code_allowed=False)
    assert verdict.eligible is eligible
    assert eligible or verdict.detail == "HiDreamImagePipeline: its text_encoder_4 is in another repo"
