"""The original layout of Stable Diffusion 1.x: all components in one file, under the names of its first code (LDM).

The reverse of what `StableDiffusionPipeline.from_single_file` does, which the names here are checked against.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_UNET_PARTS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
_UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_BLOCK = re.compile(r"(?P<side>down|up)_blocks\.(?P<block>\d+)\.(?P<kind>\w+?)s\.(?P<layer>\d+)\.(?P<rest>.+)")


def ldm_checkpoint(
    unet: "Mapping[str, torch.Tensor]", vae: "Mapping[str, torch.Tensor]", text_encoder: "Mapping[str, torch.Tensor]"
) -> "dict[str, torch.Tensor]":
    """Return one state dict in the original layout from the components' own.

    Every block of the UNet must have the same number of layers and attention in each.
    """
    layers = 1 + max(int(match["layer"]) for key in unet if (match := _BLOCK.match(key)) and match["side"] == "down")
    blocks = 1 + max(int(match["block"]) for key in vae if (match := _BLOCK.search(key)))
    checkpoint = {f"model.diffusion_model.{unet_name(key, layers)}": value for key, value in unet.items()}
    for key, value in vae.items():
        name = vae_name(key, blocks)
        as_convolution = ".attn_1." in name and value.ndim == 2
        checkpoint[f"first_stage_model.{name}"] = value[:, :, None, None].contiguous() if as_convolution else value
    for key, value in text_encoder.items():
        name = key.removeprefix("text_model.")
        checkpoint[f"cond_stage_model.transformer.text_model.{name}"] = value
    return checkpoint


def unet_name(key: str, layers: int) -> str:
    """Return the original name of a tensor of UNet2DConditionModel whose down blocks have `layers` layers each."""
    if match := _BLOCK.match(key):
        block, layer, rest = int(match["block"]), int(match["layer"]), match["rest"]
        down = match["side"] == "down"
        number = block * (layers + 1) + layer
        if match["kind"] == "downsampler":
            return f"input_blocks.{(block + 1) * (layers + 1)}.0.op.{rest.removeprefix('conv.')}"
        if match["kind"] == "upsampler":  # behind resnet and attention of the block's last layer
            return f"output_blocks.{block * (layers + 1) + layers}.2.{rest}"
        folder = f"input_blocks.{number + 1}" if down else f"output_blocks.{number}"
        return f"{folder}.0.{_renamed(rest, _UNET_RESNET)}" if match["kind"] == "resnet" else f"{folder}.1.{rest}"
    for ours, theirs in _UNET_PARTS.items():
        if key.startswith(f"{ours}."):
            rest = key.removeprefix(f"{ours}.")
            return f"{theirs}.{_renamed(rest, _UNET_RESNET) if '.resnets.' in ours else rest}"
    raise ValueError(f"{key}: not a tensor of an SD 1.x UNet")


def vae_name(key: str, blocks: int) -> str:
    """Return the original name of a tensor of AutoencoderKL with `blocks` blocks on each side."""
    name = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    if ".mid_block.attentions.0." in name:
        side, rest = name.split(".mid_block.attentions.0.")
        return f"{side}.mid.attn_1.{_renamed(rest, _VAE_ATTENTION)}"
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
    if match := _BLOCK.search(name):
        down = match["side"] == "down"
        place = f"down.{match['block']}" if down else f"up.{blocks - 1 - int(match['block'])}"
        kind = {"resnet": f"block.{match['layer']}", "downsampler": "downsample", "upsampler": "upsample"}
        name = f"{name[: match.start()]}{place}.{kind[match['kind']]}.{match['rest']}"
    return name


def _renamed(rest: str, names: Mapping[str, str]) -> str:
    part = next(part for part in names if rest.startswith(f"{part}."))
    return names[part] + rest.removeprefix(part)
