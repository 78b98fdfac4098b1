"""What an adapter is loaded into: who names the base, where it moved to, and why it may be none."""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from crawlers.catalog import read_catalog
from crawlers.crawling.catalog_builder import crawl
from crawlers.crawling.crawl_request import CrawlRequest
from crawlers.hub.retrying import RetryPolicy
from crawlers.hub_server.server import HubServer
from crawlers.recognition.base_resolution import DEFAULT_BASES, family_in_metadata, name_bases
from crawlers.recognition.lineage import named_bases
from manifests.catalog import CatalogRow
from manifests.generator import BasePipeline

QUICK = RetryPolicy(attempts=2, first_wait=0.01)
SD1 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
FILE = "my_style.safetensors"


def safetensors(shapes: Mapping[str, Sequence[int]], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return a file of zeros in half precision."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        size = 2
        for side in shape:
            size *= side
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)


def lora(width: int, metadata: Mapping[str, str] | None = None) -> bytes:
    module = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    return safetensors({f"unet.{module}.lora_A.weight": (2, width), f"unet.{module}.lora_B.weight": (4, 2)}, metadata)


CHECKPOINT = {
    "model.diffusion_model.input_blocks.0.0.weight": (4, 4, 3, 3),
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (4, 768),
    "first_stage_model.decoder.conv_in.weight": (4, 4, 3, 3),
    "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight": (77, 8),
}
XL_INDEX = {
    "_class_name": "StableDiffusionXLPipeline",
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
XL_FILES: dict[str, Any] = {
    "model_index.json": XL_INDEX,
    "scheduler/scheduler_config.json": {"_class_name": "EulerDiscreteScheduler", "prediction_type": "epsilon"},
    "text_encoder/config.json": {"hidden_size": 768},
    "text_encoder/model.safetensors": b"text" * 9,
    "text_encoder_2/config.json": {"hidden_size": 1280},
    "text_encoder_2/model.safetensors": b"text two" * 9,
    "unet/config.json": {"sample_size": 128, "cross_attention_dim": 2048},
    "unet/diffusion_pytorch_model.safetensors": b"unet" * 9,
    "vae/config.json": {"block_out_channels": [4, 4, 4, 4]},
    "vae/diffusion_pytorch_model.safetensors": b"vae" * 9,
}


def crawled(hub_folder: Any, out: Path, **request: Any) -> dict[str, CatalogRow]:
    with HubServer(hub_folder.root) as hub:
        crawl(CrawlRequest(endpoint=hub.endpoint, **request), out, policy=QUICK)
    return {row.repo_id: row for row in read_catalog(out)}


def test_who_names_the_base(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd(SD1)
    hub_folder.sd("o/other", card={"license": "mit"})
    peft = {"adapter_model.safetensors": lora(768), "adapter_config.json": {"base_model_name_or_path": "o/other"}}
    hub_folder.repo("a/peft", peft)
    hub_folder.repo("a/card", peft, card={"base_model": [SD1, "o/other"]})
    hub_folder.repo("a/tags", peft, tags=[f"base_model:adapter:{SD1}"])
    hub_folder.repo("a/words", {FILE: lora(768)}, card={"base_model": "SD 1.5"})
    hub_folder.repo("a/trained", {FILE: lora(768, {"ss_sd_model_name": "o/other", "ss_base_model_version": "sd_v1"})})
    version = {"ss_sd_model_name": "animefull.safetensors", "ss_base_model_version": "sd_v1"}
    hub_folder.repo("a/version", {FILE: lora(640, version)})
    hub_folder.repo("a/shapes", {FILE: lora(768)})
    hub_folder.repo("a/nothing", {FILE: lora(640)})
    rows = crawled(hub_folder, tmp_path)
    told = {name: str(rows[f"a/{name}"].family_evidence).split("; ")[0] for name in ("peft", "card", "tags", "words")}
    assert told == {
        "peft": "base o/other (adapter config)",
        "card": f"base {SD1} (card)",
        "tags": f"base {SD1} (card)",
        "words": f"base {SD1} (shapes)",
    }
    assert str(rows["a/trained"].family_evidence).startswith("base o/other (metadata); ")
    assert str(rows["a/shapes"].family_evidence).startswith(f"base {SD1} (shapes); ")
    assert (rows["a/version"].reason, rows["a/version"].detail) == (
        "no_base",
        f"{SD1} (metadata): a LoRA of rank 2 for a UNet of width 640, and the base's is 768",
    )
    assert (rows["a/nothing"].reason, rows["a/nothing"].detail) == (
        "no_base",
        "a LoRA of rank 2 for a UNet, and nothing says for which base",
    )
    # Whoever named it, it is what the generator descends from.
    assert (rows["a/trained"].lineage, rows["a/trained"].base_model) == ("o/other", "o/other")
    assert rows["a/shapes"].lineage == SD1


def test_why_a_base_is_none(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("b/gated", gated="manual")
    hub_folder.sd("b/gone", behaviour={"missing": True})
    hub_folder.sd("b/pickles", drop=("unet",), files={"unet/diffusion_pytorch_model.bin": b"pickle"})
    hub_folder.sd(
        "b/inpaint", files={"model_index.json": {"_class_name": "StableDiffusionInpaintPipeline", "unet": ["d", "U"]}}
    )
    hub_folder.repo("b/adapter", {FILE: lora(768)}, card={"base_model": "b/gone"})
    hub_folder.sd("b/busy", behaviour={"broken_first": 10_000})
    hub_folder.repo("b/xl", XL_FILES)
    no_lora = {"_class_name": "DiTPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    hub_folder.sd("b/dit", files={"model_index.json": no_lora})
    expected = {
        "gated": ("no_base", "b/gated (card): gated: access is granted by manual approval"),
        "gone": ("no_base", "b/gone (card): gone: 404"),
        "never": ("no_base", "b/never (card): gone: 404"),
        "pickles": ("no_base", "b/pickles (card): pickle_only: unet: no safetensors"),
        "inpaint": ("no_base", "b/inpaint (card): unsupported_pipeline: StableDiffusionInpaintPipeline"),
        "adapter": ("no_base", "b/adapter (card): no_model_index: it is no whole pipeline"),
        "busy": ("no_base", "b/busy (card): unavailable: 503"),
        "xl": ("no_base", "b/xl (card): a LoRA of rank 2 for a UNet of width 768, and the base's is 2048"),
        "dit": ("unsupported_pipeline", "DiTPipeline cannot be given a LoRA of rank 2 for a UNet"),
    }
    for name in expected:
        hub_folder.repo(f"l/{name}", {FILE: lora(768)}, card={"base_model": f"b/{name}"})
    rows = crawled(hub_folder, tmp_path)
    for name, (reason, detail) in expected.items():
        row = rows[f"l/{name}"]
        assert (row.reason, row.base, row.eligible) == (reason, None, False), name
        assert str(row.detail).startswith(detail), name
        assert (row.packaging, row.weight_name, [file.path for file in row.files]) == ("lora", FILE, [FILE]), name


def test_a_token_opens_a_gated_base(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("b/gated", gated="manual", gated_token="hf_right")
    hub_folder.repo("l/style", {FILE: lora(768)}, card={"base_model": "b/gated"})
    assert crawled(hub_folder, tmp_path, token="hf_right")["l/style"].eligible


@pytest.mark.parametrize(
    ("there", "base", "note"),
    [
        ("moved", SD1, f"alias runwayml/stable-diffusion-v1-5 -> {SD1} not verified"),
        ("both", SD1, f"alias runwayml/stable-diffusion-v1-5 -> {SD1} verified by weight hashes"),
        ("differ", "runwayml/stable-diffusion-v1-5", "refused: their weights differ"),
    ],
)
def test_a_base_that_moved(hub_folder: Any, tmp_path: Path, there: str, base: str, note: str) -> None:
    hub_folder.sd(SD1, unet=b"the unet" * 20)
    if there != "moved":
        hub_folder.sd("runwayml/stable-diffusion-v1-5", unet=(b"the unet" if there == "both" else b"another!") * 20)
    hub_folder.repo("l/style", {FILE: lora(768)}, card={"base_model": "runwayml/stable-diffusion-v1-5"})
    row = crawled(hub_folder, tmp_path)["l/style"]
    assert (row.eligible, row.lineage) == (True, base)
    assert row.base is not None and row.base.repo_id == base
    assert note in str(row.detail)


def test_a_checkpoint_takes_from_its_base_what_it_lacks(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd(SD1)
    whole = safetensors(CHECKPOINT)
    no_text = safetensors({key: shape for key, shape in CHECKPOINT.items() if not key.startswith("cond_stage")})
    lone = safetensors({key: shape for key, shape in CHECKPOINT.items() if key.startswith("model.")})
    for name, content in (("whole", whole), ("no-text", no_text), ("lone", lone)):
        hub_folder.repo(f"c/{name}", {FILE: content}, card={"base_model": SD1})
    # Its card names what cannot be a base; only configs are needed, so the family's own will do.
    hub_folder.repo("c/other", {FILE: whole}, card={"base_model": "c/lone"})
    rows = crawled(hub_folder, tmp_path)
    needed = {}
    for name in ("whole", "no-text", "lone", "other"):
        row = rows[f"c/{name}"]
        assert (row.eligible, row.packaging, row.weight_name) == (True, "single-file", FILE), name
        assert row.base is not None
        needed[name] = ([file.path.split("/")[0] for file in row.base.files], row.component)
        assert row.weight_bytes == sum(file.size for file in (*row.files, *row.base.files))
    assert needed == {
        "whole": ([], None),
        "no-text": (["text_encoder"], None),
        "lone": (["text_encoder", "vae"], "unet"),
        "other": ([], None),
    }
    expected = f"configs of {SD1} (shapes), since c/lone (card): no_model_index: it is no whole pipeline"
    assert rows["c/other"].detail == expected
    assert rows["c/other"].base_model == "c/lone"


def test_a_checkpoint_of_a_v_prediction_model_says_so_in_its_header(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.repo(SDXL, XL_FILES)
    shapes = {key: shape for key, shape in CHECKPOINT.items() if "attn2" not in key and "cond_stage" not in key} | {
        "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": (4, 2048),
        "conditioner.embedders.0.transformer.text_model.embeddings.position_embedding.weight": (77, 8),
        "conditioner.embedders.1.model.positional_embedding": (77, 8),
    }
    hub_folder.repo("c/plain", {FILE: safetensors(shapes)})
    hub_folder.repo("c/vpred", {FILE: safetensors(shapes | {"v_pred": (0,), "ztsnr": (0,)})})
    rows = crawled(hub_folder, tmp_path)
    assert (rows["c/plain"].family, rows["c/plain"].params.scheduler_config) == ("sdxl", {})
    row = rows["c/vpred"]
    assert (row.family, row.params.steps, row.params.width) == ("sdxl-vpred", 28, 1024)
    assert row.params.scheduler_config == {
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    }
    assert row.params.call_kwargs == {"guidance_rescale": 0.7}
    assert str(row.family_evidence).endswith("; the file's header")


def test_learned_tokens_must_fit_the_text_encoder(hub_folder: Any, tmp_path: Path) -> None:
    hub_folder.sd("b/sd")  # its text encoder is 8 wide
    hub_folder.repo("b/xl", XL_FILES)
    pair = safetensors({"clip_l": (2, 768), "clip_g": (2, 1280)})
    hub_folder.repo("t/xl", {"my-Face.safetensors": pair}, card={"base_model": "b/xl"})
    hub_folder.repo("t/wide", {FILE: safetensors({"emb_params": (2, 768)})}, card={"base_model": "b/sd"})
    named = {"learned_embeds.safetensors": safetensors({"emb_params": (2, 768)}), "token_identifier.txt": b"<my-cat>\n"}
    hub_folder.repo("t/named", named, card={"base_model": "b/xl"})
    hub_folder.repo("t/pickle", {"learned_embeds.bin": b"pickle"}, card={"base_model": "b/sd"})
    rows = crawled(hub_folder, tmp_path)
    row = rows["t/xl"]
    assert (row.eligible, row.packaging, row.params.trigger_words) == (True, "textual-inversion", ("<my-face>",))
    assert row.params.sources["trigger_words"] == "name"
    assert (rows["t/named"].params.trigger_words, rows["t/named"].params.sources["trigger_words"]) == (
        ("<my-cat>",),
        "config",
    )
    assert (rows["t/wide"].reason, rows["t/wide"].detail) == (
        "no_base",
        "b/sd (card): learned tokens of width 768, and the base's text_encoder has width 8",
    )
    assert rows["t/pickle"].reason == "pickle_only"
    assert "looks like a textual inversion (learned_embeds.bin)" in str(rows["t/pickle"].detail)


@pytest.mark.parametrize(
    ("metadata", "family"),
    [
        ({}, None),
        ({"ss_base_model_version": "sd_v1"}, "sd1"),
        ({"ss_base_model_version": "sd_v2"}, "sd2-base"),
        ({"ss_base_model_version": "sd_v2_v"}, "sd2-v"),
        ({"ss_base_model_version": "sdxl_base_v1-0"}, "sdxl"),
        ({"ss_base_model_version": "sd3"}, "sd3"),
        ({"ss_base_model_version": "flux1"}, "flux1-dev"),
        ({"ss_base_model_version": "unheard-of"}, None),
        ({"modelspec.architecture": "stable-diffusion-v1/lora"}, "sd1"),
        ({"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}, "sdxl"),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v", "modelspec.prediction_type": "v"}, "sd2-v"),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v", "modelspec.prediction_type": "epsilon"}, "sd2-base"),
        ({"modelspec.architecture": "stable-diffusion-3.5-large"}, "sd3.5-large"),
        ({"modelspec.architecture": "Flux-1-dev/lora"}, "flux1-dev"),
        ({"modelspec.architecture": "flux-1-schnell/lora"}, "flux1-schnell"),
        ({"modelspec.architecture": "flux-2-dev/lora"}, "flux2"),
        ({"modelspec.architecture": "Qwen-Image/lora"}, "qwen-image"),
    ],
)
def test_what_trainers_write_into_a_file(metadata: dict[str, str], family: str | None) -> None:
    assert family_in_metadata(metadata) == family


def test_the_order_of_those_who_name_a_base() -> None:
    manifest = BasePipeline(repo_id="m/m", subfolder="in")
    metadata = {"ss_sd_model_name": "t/t", "ss_base_model_version": "sdxl_base_v1-0"}
    found = name_bases(manifest, ("c/c", "c/second"), {"base_model_name_or_path": "p/p"}, metadata, "sd1")
    assert [(base.pipeline.repo_id, base.source) for base in found] == [
        ("m/m", "manifest"),
        ("c/c", "card"),
        ("p/p", "adapter config"),
        ("t/t", "metadata"),
        (SDXL, "metadata"),
        (SD1, "shapes"),
    ]
    assert found[0].pipeline.subfolder == "in"
    assert (
        name_bases(None, (), {"base_model_name_or_path": "/home/me/model"}, {"ss_sd_model_name": "x.ckpt"}, None) == []
    )


def test_default_bases_are_repos_that_a_card_could_name() -> None:
    for repo_id in DEFAULT_BASES.values():
        assert named_bases("me/mine", {"base_model": repo_id}, []) == (repo_id,)
