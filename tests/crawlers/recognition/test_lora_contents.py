"""What a LoRA is for, by the names and shapes in its header, in every format that the hub's trainers write."""

from collections.abc import Mapping, Sequence

import pytest

from crawlers.recognition.safetensors_header import SafetensorsHeader, Tensor
from crawlers.recognition.weight_contents import tell_contents


def header(shapes: Mapping[str, Sequence[int]], metadata: Mapping[str, str] | None = None) -> SafetensorsHeader:
    tensors = {name: Tensor("F16", tuple(shape)) for name, shape in shapes.items()}
    return SafetensorsHeader(tensors, metadata or {})


UNET_BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"


KOHYA_BLOCK = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"


@pytest.mark.parametrize(
    ("shapes", "denoiser", "width", "family", "rank"),
    [
        # diffusers and peft, today and before
        ({f"unet.{UNET_BLOCK}.lora_A.weight": (8, 768)}, "unet", 768, "sd1", 8),
        ({f"unet.{UNET_BLOCK}.lora.down.weight": (8, 768)}, "unet", 768, "sd1", 8),
        ({f"base_model.model.{UNET_BLOCK}.lora_A.default.weight": (8, 1024)}, "unet", 1024, "sd2-v", 8),
        ({f"{UNET_BLOCK[:-5]}.processor.to_k_lora.down.weight": (4, 768)}, "unet", 768, "sd1", 4),
        ({f"unet.{UNET_BLOCK.replace('attn2', 'attn1')}.lora_A.weight": (8, 640)}, "unet", None, None, 8),
        # kohya: SD 1.x under diffusers' names, SDXL under the original ones
        ({f"{KOHYA_BLOCK}.lora_down.weight": (16, 768)}, "unet", 768, "sd1", 16),
        (
            {
                "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight": (32, 2048),
                "lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight": (32, 768),
            },
            "unet",
            2048,
            "sdxl",
            32,
        ),
        (
            {
                "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_k.lora_down.weight": (32, 640),
                "lora_te2_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight": (32, 1280),
            },
            "unet",
            None,
            "sdxl",
            32,
        ),
        ({"text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight": (8, 768)}, None, None, None, 8),
        # transformers
        (
            {"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": (16, 3072)},
            "transformer",
            3072,
            "flux1-dev",
            16,
        ),
        (
            {"lora_unet_single_blocks_0_linear1.lora_down.weight": (16, 3072)},
            "transformer",
            None,
            "flux1-dev",
            16,
        ),
        (
            {"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": (16, 3072)},
            "transformer",
            3072,
            None,  # other models have such blocks too
            16,
        ),
        (
            {"transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj.lora_A.weight": (16, 6144)},
            "transformer",
            None,
            "flux2",
            16,
        ),
        (
            {"transformer.transformer_blocks.0.attn.to_q.lora_A.weight": (16, 1536)},
            "transformer",
            1536,
            "sd3",
            16,
        ),
        (
            {"transformer.transformer_blocks.0.attn.to_q.lora_A.weight": (16, 2432)},
            "transformer",
            2432,
            "sd3.5-large",
            16,
        ),
        (
            {
                "transformer_blocks.0.attn.to_q.lora_A.weight": (16, 3072),
                "transformer_blocks.0.img_mlp.net.2.lora_A.weight": (16, 12288),
            },
            "transformer",
            3072,
            "qwen-image",
            16,
        ),
        (
            {
                "diffusion_model.layers.0.attention.to_q.lora_A.weight": (16, 3840),
                "diffusion_model.noise_refiner.0.attention.to_q.lora_A.weight": (16, 3840),
            },
            "transformer",
            3840,
            "z-image",
            16,
        ),
        (
            {"transformer.transformer_blocks.0.attn1.to_q.lora_A.weight": (16, 1152)},
            "transformer",
            1152,
            None,
            16,
        ),
    ],
)
def test_loras(
    shapes: dict[str, Sequence[int]], denoiser: str | None, width: int | None, family: str | None, rank: int
) -> None:
    contents = tell_contents(header(shapes))
    assert contents.kind == "lora"
    assert (contents.denoiser, contents.width, contents.family, contents.rank) == (denoiser, width, family, rank)
