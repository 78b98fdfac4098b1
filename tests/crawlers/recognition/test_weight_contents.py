"""What a file is, by the names and shapes in its header: a checkpoint, a denoiser, learned tokens, or of no use."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from crawlers.recognition.safetensors_header import SafetensorsHeader, Tensor, parse_header
from crawlers.recognition.weight_contents import tell_contents
from manifests.generator import WeightFile
from pipeline.demo.toy_adapter_weights import (
    EMBEDDING_FILE,
    KOHYA_FILE,
    LORA_FILE,
    SINGLE_FILE,
    build_kohya_lora,
    build_lora,
    build_single_file,
    build_textual_inversion,
    build_unet_only,
)


def header(shapes: Mapping[str, Sequence[int]], metadata: Mapping[str, str] | None = None) -> SafetensorsHeader:
    tensors = {name: Tensor("F16", tuple(shape)) for name, shape in shapes.items()}
    return SafetensorsHeader(tensors, metadata or {})


UNET_BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"


KOHYA_BLOCK = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"


LDM_BLOCK = "input_blocks.4.1.transformer_blocks.0.attn2.to_k"


ENTRY = "model.diffusion_model.input_blocks.0.0.weight"


def sd_checkpoint(width: int, channels: int = 4, prefix: str = "model.diffusion_model.") -> dict[str, Sequence[int]]:
    return {
        f"{prefix}input_blocks.0.0.weight": (320, channels, 3, 3),
        f"{prefix}{LDM_BLOCK}.weight": (640, width),
        "first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3),
    }


CLIP = {"cond_stage_model.transformer.text_model.embeddings.position_embedding.weight": (77, 768)}


XL_TEXT = {
    "conditioner.embedders.0.transformer.text_model.embeddings.position_embedding.weight": (77, 768),
    "conditioner.embedders.1.model.positional_embedding": (77, 1280),
}


FLUX = {"double_blocks.0.img_attn.norm.key_norm.scale": (128,), "img_in.weight": (3072, 64)}


SD3 = {
    "model.diffusion_model.joint_blocks.0.context_block.adaLN_modulation.1.bias": (9216,),
    "model.diffusion_model.x_embedder.proj.weight": (1536, 16, 2, 2),
}


@pytest.mark.parametrize(
    ("shapes", "family", "width", "holds"),
    [
        (sd_checkpoint(768) | CLIP, "sd1", 768, {"unet", "vae", "text_encoder"}),
        (sd_checkpoint(1024) | {"cond_stage_model.model.token_embedding.weight": (9, 9)}, "sd2-v", 1024, None),
        (sd_checkpoint(2048) | XL_TEXT, "sdxl", 2048, {"unet", "vae", "text_encoder", "text_encoder_2"}),
        (sd_checkpoint(2048) | XL_TEXT | {"v_pred": (0,), "ztsnr": (0,)}, "sdxl-vpred", 2048, None),
        (sd_checkpoint(2048) | XL_TEXT | {"edm_mean": (1, 4, 1, 1)}, "playground-v2.5", 2048, None),
        ({ENTRY: (320, 4, 3, 3), f"model.diffusion_model.{LDM_BLOCK}.weight": (640, 768)}, "sd1", 768, {"unet"}),
        (FLUX, "flux1-schnell", 3072, {"transformer"}),
        (FLUX | {"guidance_in.in_layer.bias": (3072,)}, "flux1-dev", 3072, {"transformer"}),
        (
            {f"model.diffusion_model.{name}": shape for name, shape in FLUX.items()}
            | {
                "vae.decoder.conv_in.weight": (512, 16, 3, 3),
                "text_encoders.clip_l.transformer.text_model.embeddings.position_embedding.weight": (77, 768),
                "text_encoders.t5xxl.transformer.shared.weight": (32128, 4096),
            },
            "flux1-schnell",
            3072,
            {"transformer", "vae", "text_encoder", "text_encoder_2"},
        ),
        ({"distilled_guidance_layer.in_proj.bias": (5120,)} | FLUX, "chroma", 3072, {"transformer"}),
        ({"single_stream_modulation.lin.weight": (9, 9)} | FLUX, "flux2", None, {"transformer"}),
        (
            SD3
            | {
                "first_stage_model.decoder.conv_in.weight": (512, 16, 3, 3),
                "text_encoders.clip_l.transformer.text_model.embeddings.position_embedding.weight": (77, 768),
                "text_encoders.clip_g.transformer.text_model.embeddings.position_embedding.weight": (77, 1280),
            },
            "sd3",
            1536,
            {"transformer", "vae", "text_encoder", "text_encoder_2"},
        ),
        (SD3 | {"text_encoders.t5xxl.x": (1,)}, "sd3", 1536, {"transformer", "text_encoder_3"}),
        (
            SD3 | {"model.diffusion_model.joint_blocks.0.x_block.attn2.qkv.weight": (9, 9)},
            "sd3.5-medium",
            1536,
            {"transformer"},
        ),
    ],
)
def test_checkpoints(shapes: dict[str, Sequence[int]], family: str, width: int | None, holds: set[str] | None) -> None:
    contents = tell_contents(header(shapes))
    assert (contents.kind, contents.family, contents.width) == ("checkpoint", family, width)
    assert holds is None or contents.holds == holds


@pytest.mark.parametrize(
    ("shapes", "kind", "said"),
    [
        ({}, "other", "no tensor"),
        (sd_checkpoint(768, channels=9) | CLIP, "other", "takes 9 channels"),
        (sd_checkpoint(768, channels=8) | CLIP, "other", "takes 8 channels"),
        (sd_checkpoint(1280) | {"conditioner.embedders.0.model.text_projection": (1280, 1280)}, "other", "refiner"),
        (FLUX | {"img_in.weight": (3072, 384)}, "other", "takes 384 channels"),
        (
            {"controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3), "conv_in.weight": (320, 4, 3, 3)},
            "other",
            "Cont",
        ),
        ({"encoder.conv_in.weight": (128, 3, 3, 3), "decoder.conv_in.weight": (512, 4, 3, 3)}, "other", "another kind"),
        ({"image_proj.proj.weight": (3072, 1024), "ip_adapter.1.to_k_ip.weight": (320, 768)}, "other", "another kind"),
        ({f"{KOHYA_BLOCK}.hada_w1_a": (768, 8)}, "other", "LyCORIS adapter (hada_w1_a)"),
        ({f"{KOHYA_BLOCK}.lokr_w1": (8, 8)}, "other", "LyCORIS adapter (lokr_w1)"),
        (FLUX | {"double_blocks.0.x.weight.quant_state.bitsandbytes__nf4": (88,)}, "other", "quantised"),
        ({"conv_in.weight": (320, 4, 3, 3), f"{UNET_BLOCK}.weight": (640, 768)}, "denoiser", "a UNet"),
        ({"transformer_blocks.0.attn.to_q.weight": (3072, 3072)}, "denoiser", "a transformer"),
        ({"emb_params": (8, 768)}, "embedding", "768"),
        ({"clip_l": (8, 768), "clip_g": (8, 1280)}, "embedding", "768 and 1280"),
        ({"<cat-toy>": (768,)}, "embedding", "768"),
        ({"<cat-toy>": (2**20, 768)}, "other", "another kind"),
        ({"a": (4, 768), "b": (4, 768)}, "other", "another kind"),
    ],
)
def test_what_else_a_file_may_be(shapes: dict[str, Sequence[int]], kind: str, said: str) -> None:
    contents = tell_contents(header(shapes))
    assert contents.kind == kind
    assert said in contents.what


def test_files_that_the_real_libraries_wrote(tmp_path: Path) -> None:
    for build, name, kind, width in (
        (build_lora, LORA_FILE, "lora", 32),
        (build_kohya_lora, KOHYA_FILE, "lora", 32),
        (build_single_file, SINGLE_FILE, "checkpoint", 32),
        (build_unet_only, "diffusion_pytorch_model.safetensors", "denoiser", 32),
        (build_textual_inversion, EMBEDDING_FILE, "embedding", None),
    ):
        folder = tmp_path / build.__name__
        folder.mkdir()
        build(folder, 0)
        data = (folder / name).read_bytes()
        length = int.from_bytes(data[:8], "little")
        contents = tell_contents(parse_header(data[8 : 8 + length], WeightFile(path=name, size=len(data))))
        assert (contents.kind, contents.width) == (kind, width)


def test_the_toy_checkpoint_is_what_diffusers_converts_back(tmp_path: Path) -> None:
    """The builder's names are those of the original layout: diffusers finds every tensor where it looks for it."""
    import torch
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import logging

    from pipeline.demo.toy_unet_pipelines import build_stable_diffusion, build_stable_diffusion_finetune

    logging.disable_progress_bar()
    for name in ("base", "other", "single"):
        (tmp_path / name).mkdir()
    build_stable_diffusion(tmp_path / "base", 0)
    build_stable_diffusion_finetune(tmp_path / "other", 7_000_000)
    build_single_file(tmp_path / "single", 0)
    loaded = StableDiffusionPipeline.from_single_file(
        str(tmp_path / "single" / SINGLE_FILE), config=str(tmp_path / "base"), local_files_only=True
    )
    for part, origin in (("unet", "other"), ("vae", "base"), ("text_encoder", "base")):
        wanted = getattr(StableDiffusionPipeline.from_pretrained(tmp_path / origin), part).state_dict()
        found = getattr(loaded, part).state_dict()
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted), part


def test_metadata_survives_json() -> None:
    text = json.dumps({"__metadata__": {"a": "b", "c": 3}, "t": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})
    parsed = parse_header(text.encode(), WeightFile(path="x", size=8 + len(text) + 8))
    assert parsed.metadata == {"a": "b"}
    assert parsed.main_dtype == "F32"
