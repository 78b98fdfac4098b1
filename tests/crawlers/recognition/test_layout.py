"""Which files a download needs, among all that repos hold beside them."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawlers.recognition.layout import LayoutError, describe_without_index, plan_model, plan_pipeline
from crawlers.recognition.model_index import ModelIndex, find_model_indexes, parse_model_index
from manifests.generator import WeightFile

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "image_encoder": [None, None],
}
PLAIN = [
    "text_encoder/model.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
]


def index(folder: str = "", content: dict[str, Any] = INDEX) -> ModelIndex:
    return parse_model_index(content, folder)


def files(*paths: str) -> list[WeightFile]:
    return [WeightFile(path=path, size=10 + number, sha256="0" * 64) for number, path in enumerate(paths)]


def planned(*paths: str, folder: str = "", variant: str | None = None) -> tuple[list[str], str | None]:
    plan = plan_pipeline(index(folder), files(*paths), variant=variant)
    return [file.path for file in plan.files], plan.variant


def test_one_copy_of_each_component_and_nothing_else() -> None:
    repo = [
        *PLAIN,
        "v1-5-pruned.safetensors",  # the whole model again, in one file
        "v1-5-pruned.ckpt",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "unet/diffusion_flax_model.msgpack",
        "unet/model.onnx",
        "unet/openvino_model.bin",
        "text_encoder/model.fp16.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "vae_1_0/diffusion_pytorch_model.safetensors",
        "safety_checker/model.safetensors",  # replaced by ours
        "model_index.json",
        "tokenizer/vocab.json",
    ]
    assert planned(*repo) == (PLAIN, None)


def test_a_pipeline_in_a_subfolder_takes_nothing_from_the_root() -> None:
    inside = [f"sd/{path}" for path in PLAIN]
    assert planned(*PLAIN, *inside, folder="sd") == (inside, None)


@pytest.mark.parametrize("variant", ["fp16", "bf16", "non_ema", "my_variant"])
def test_a_variant_completes_a_pipeline_without_plain_weights(variant: str) -> None:
    unet = f"unet/diffusion_pytorch_model.{variant}.safetensors"
    assert planned(PLAIN[0], unet, PLAIN[2]) == ([PLAIN[0], unet, PLAIN[2]], variant)


def test_half_precision_wins_over_weights_that_were_not_averaged() -> None:
    unets = [f"unet/diffusion_pytorch_model.{variant}.safetensors" for variant in ("non_ema", "fp16")]
    assert planned(PLAIN[0], *unets, PLAIN[2]) == ([PLAIN[0], unets[1], PLAIN[2]], "fp16")


def test_a_wanted_variant_is_taken_where_it_exists() -> None:
    half = "unet/diffusion_pytorch_model.fp16.safetensors"
    assert planned(*PLAIN, half, variant="fp16") == ([PLAIN[0], half, PLAIN[2]], "fp16")
    assert planned(*PLAIN, variant="fp16") == (PLAIN, None)


def test_no_single_variant_for_all_gaps() -> None:
    with pytest.raises(LayoutError, match="no single variant") as caught:
        planned("text_encoder/model.fp16.safetensors", "unet/diffusion_pytorch_model.non_ema.safetensors", PLAIN[2])
    assert caught.value.reason == "no_weights"


def test_shards_come_with_their_index_and_are_what_diffusers_loads_first() -> None:
    shards = [f"unet/diffusion_pytorch_model-0000{part}-of-00002.safetensors" for part in (1, 2)]
    listing = "unet/diffusion_pytorch_model.safetensors.index.json"
    assert planned(*PLAIN, *shards, listing)[0] == [PLAIN[0], *shards, listing, PLAIN[2]]
    # transformers loads the whole file first
    text = [f"text_encoder/model-0000{part}-of-00002.safetensors" for part in (1, 2)]
    assert planned(*PLAIN, *text, "text_encoder/model.safetensors.index.json")[0] == PLAIN
    assert planned(*PLAIN[1:], *text, "text_encoder/model.safetensors.index.json")[0] == [
        *text,
        "text_encoder/model.safetensors.index.json",
        *PLAIN[1:],
    ]


@pytest.mark.parametrize(
    "names",
    [
        ("model.fp16-0000{}-of-00002.safetensors", "model.safetensors.index.fp16.json"),
        ("model-0000{}-of-00002.fp16.safetensors", "model.safetensors.index.fp16.json"),
        ("model.fp16-0000{}-of-00002.safetensors", "model.fp16.safetensors.index.json"),
    ],
)
def test_shards_of_a_variant_in_every_spelling(names: tuple[str, str]) -> None:
    shards = [f"text_encoder/{names[0].format(part)}" for part in (1, 2)]
    listing = f"text_encoder/{names[1]}"
    assert planned(*shards, listing, *PLAIN[1:]) == ([*shards, listing, *PLAIN[1:]], "fp16")


@pytest.mark.parametrize(
    ("unet", "reason", "detail"),
    [
        (["diffusion_pytorch_model.bin"], "pickle_only", "unet: no safetensors, only pickles"),
        (["weights.ckpt"], "pickle_only", "only pickles"),
        (["config.json"], "no_weights", "UNet2DConditionModel has no weights"),
        ([], "no_weights", "UNet2DConditionModel has no weights"),
        (
            ["diffusion_pytorch_model-00001-of-00002.safetensors", "diffusion_pytorch_model.safetensors.index.json"],
            "no_weights",
            "1 of 2 shards",
        ),
        (["diffusion_pytorch_model-00001-of-00001.safetensors"], "no_weights", "shards without index"),
        (["lora.safetensors"], "no_weights", "has no weights"),
    ],
)
def test_why_a_component_cannot_be_downloaded(unet: list[str], reason: str, detail: str) -> None:
    with pytest.raises(LayoutError, match=re.escape(detail)) as caught:
        planned(PLAIN[0], PLAIN[2], *(f"unet/{name}" for name in unet))
    assert caught.value.reason == reason


@given(
    st.sets(
        st.sampled_from(
            [
                f"{folder}/{stem}{variant}{end}"
                for folder in ("unet", "vae", "text_encoder", "safety_checker", "other", "unet/deep")
                for stem in ("diffusion_pytorch_model", "model", "sd-v1")
                for variant in ("", ".fp16", ".non_ema")
                for end in (".safetensors", ".bin", ".onnx", ".msgpack")
            ]
        )
    )
)
def test_a_plan_is_complete_safe_and_without_duplicates(paths: set[str]) -> None:
    try:
        plan = plan_pipeline(index(), files(*sorted(paths)))
    except LayoutError as error:
        assert error.reason in ("pickle_only", "no_weights")
        return
    taken = [file.path for file in plan.files]
    assert [path.split("/")[0] for path in taken] == ["text_encoder", "unet", "vae"]
    assert set(taken) <= paths
    assert all(path.endswith(".safetensors") for path in taken)
    assert plan.bytes == sum(file.size for file in plan.files)
    assert (plan.variant is None) == all(path.count(".") == 1 for path in taken)


def test_a_single_model_is_planned_from_its_root() -> None:
    plan = plan_model(files("config.json", "model.fp16.safetensors", "model.safetensors", "pytorch_model.bin"))
    assert [file.path for file in plan.files] == ["model.safetensors"]
    with pytest.raises(LayoutError) as caught:
        plan_model(files("config.json", "pytorch_model.bin"))
    assert caught.value.reason == "pickle_only"


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        (["model_index.json", "unet/config.json"], [""]),
        (["b/model_index.json", "a/model_index.json"], ["a", "b"]),
        (["a/model_index.json", "model_index.json"], ["", "a"]),
        (["a/b/model_index.json"], []),
        (["my_model_index.json"], []),
    ],
)
def test_where_pipelines_are_looked_for(paths: list[str], found: list[str]) -> None:
    assert find_model_indexes(paths) == found


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (["pytorch_lora_weights.safetensors"], "an adapter"),
        (["my-LoRA-v2.safetensors"], "an adapter"),
        (["learned_embeds.safetensors"], "a textual inversion"),
        (["diffusion_pytorch_model.safetensors", "config.json"], "a single component"),
        (["model.ckpt"], "a single-file checkpoint"),
        (["README.md"], "no weights"),
        ([], "empty"),
    ],
)
def test_what_a_repo_without_pipeline_looks_like(paths: list[str], said: str) -> None:
    assert said in describe_without_index(paths)
