"""What a lone safetensors file holds, told by the names and shapes of its tensors and never by its own name.

A checkpoint of a whole model, a denoiser, a LoRA in any of the trainers' formats, or learned tokens; for which
architecture, as far as widths tell.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from crawlers.recognition.safetensors_header import SafetensorsHeader, Tensor

Kind = Literal["checkpoint", "denoiser", "lora", "embedding", "other"]


@dataclass(frozen=True)
class WeightContents:
    """What a file holds.

    Attributes:
        what: in words, for the catalog's detail.
        denoiser: which kind of denoiser it holds or changes, "unet" or "transformer"; None for neither.
        width: of the text that a UNet attends to, or of a transformer's own stream; None where that is not told.
        family: key of `crawlers.parameters.families.FAMILIES` that these widths are known of.
        holds: checkpoint: the components of a diffusers pipeline that are in it.
        rank: of a LoRA's matrices, the commonest.
        text_widths: embedding: width of the tokens for the first and second text encoder.
    """

    kind: Kind
    what: str
    denoiser: str | None = None
    width: int | None = None
    family: str | None = None
    holds: frozenset[str] = frozenset()
    rank: int | None = None
    text_widths: tuple[int, ...] = ()
    token: str | None = None


UNET_WIDTHS: Mapping[int, str] = {768: "sd1", 1024: "sd2-v", 2048: "sdxl"}
"""Width of the text that a UNet attends to, and the family that it belongs to."""
_SD3_WIDTHS = {1536: "sd3", 2432: "sd3.5-large"}

_LORA = re.compile(
    r"(?P<module>.+?)(?:\.lora_A(?:\.\w+)?\.weight|\.lora_down\.weight|\.lora\.down\.weight|_lora\.down\.weight"
    r"|\.lora_linear_layer\.down\.weight|\.lora_A|\.lora_down)"
)
_LYCORIS = re.compile(r"\.(lokr_w[12](_[ab])?|hada_w[12]_[ab]|oft_\w+|boft_\w+)$")
_TEXT_ENCODER = re.compile(r"(lora_te\d?_|text_encoder(_\d)?\.|text_model\.|te\d_)")
_UNET = re.compile(r"(down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block)[._]")
_TRANSFORMER = re.compile(
    r"(transformer_blocks|single_transformer_blocks|double_blocks|single_blocks|joint_blocks|layers|blocks)[._]\d"
)
_QUERY = re.compile(r"(to_q|to_k|to_v|qkv|q_proj)$")
_SMALL = 8 * 2**20
"""Elements: no file of learned tokens has more."""


def tell_contents(header: SafetensorsHeader) -> WeightContents:
    """Return what a file with this header holds."""
    names = header.tensors.keys()
    if not names:
        return WeightContents("other", "no tensor at all")
    if any(".quant_state" in name or ".bitsandbytes__" in name for name in names):
        return WeightContents("other", "quantised weights, which need code of their own")
    if any(_LORA.fullmatch(name) for name in names):
        return _lora(header.tensors)
    if lycoris := next((found for name in names if (found := _LYCORIS.search(name))), None):
        return WeightContents("other", f"a LyCORIS adapter ({lycoris[1]}), not a LoRA")
    if checkpoint := _checkpoint(header.tensors):
        return checkpoint
    if denoiser := _denoiser(header.tensors):
        return denoiser
    if embedding := _embedding(header.tensors):
        return embedding
    return WeightContents("other", f"tensors of another kind, such as {min(names)[:80]}")


def _lora(tensors: Mapping[str, Tensor]) -> WeightContents:
    factors = {match["module"]: t for name, t in tensors.items() if (match := _LORA.fullmatch(name))}
    shaped = {module: tensor for module, tensor in factors.items() if len(tensor.shape) >= 2}
    rank = _commonest(tensor.shape[0] for tensor in shaped.values())
    own = {module: tensor for module, tensor in shaped.items() if not _TEXT_ENCODER.match(module)}
    if any(_UNET.search(module) for module in own):
        cross = (t.shape[1] for module, t in own.items() if "attn2" in module and module.endswith(("to_k", "to_v")))
        width = _commonest(cross)
        family = UNET_WIDTHS.get(width) if width is not None else None
        if family is None and width is None and any(module.startswith("lora_te2_") for module in shaped):
            family = "sdxl"
        return WeightContents("lora", f"a LoRA of rank {rank} for a UNet", "unet", width, family, rank=rank)
    if any(_TRANSFORMER.search(module) for module in own):
        width = _commonest(t.shape[1] for module, t in own.items() if _QUERY.search(module))
        family = _transformer_family(own, width)
        what = f"a LoRA of rank {rank} for a transformer"
        return WeightContents("lora", what, "transformer", width, family, rank=rank)
    return WeightContents("lora", f"a LoRA of rank {rank} for {'another model' if own else 'text encoders'}", rank=rank)


def _transformer_family(modules: Iterable[str], width: int | None) -> str | None:
    text = "\n".join(modules)
    if re.search(r"to_qkv_mlp_proj|single_stream_modulation", text):
        return "flux2"
    if re.search(r"img_mlp|img_mod", text) and "transformer_blocks" in text and "single_" not in text:
        return "qwen-image"
    if re.search(r"single_transformer_blocks|single_blocks", text):
        return "flux1-dev" if width in (3072, None) else None
    if "noise_refiner" in text or "context_refiner" in text:
        return {3840: "z-image", 2304: "lumina2"}.get(width or 0)
    joint = "joint_blocks" in text or re.search(r"(^|\.)transformer_blocks\.\d+\.attn\.", text, re.MULTILINE)
    return _SD3_WIDTHS.get(width or 0) if joint else None


def _checkpoint(tensors: Mapping[str, Tensor]) -> WeightContents | None:
    """Recognise the layouts of the models' own authors, which user interfaces share: one file, all components."""
    prefix = "model.diffusion_model."
    inside = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)} or dict(
        tensors
    )
    holds = set(_beside_denoiser(tensors))
    if (entry := inside.get("input_blocks.0.0.weight")) is not None and len(entry.shape) == 4:
        width = _commonest(
            t.shape[1] for name, t in inside.items() if name.endswith("attn2.to_k.weight") and len(t.shape) == 2
        )
        if entry.shape[1] != 4:
            return WeightContents("other", f"a checkpoint whose UNet takes {entry.shape[1]} channels, not noise alone")
        if width == 1280 and "conditioner.embedders.0.model.text_projection" in tensors:
            return WeightContents("other", "a checkpoint of the SDXL refiner, which paints over an image")
        family = UNET_WIDTHS.get(width or 0)
        if family == "sdxl":
            family = "playground-v2.5" if "edm_mean" in tensors else "sdxl-vpred" if "v_pred" in tensors else family
        return WeightContents(
            "checkpoint", "a checkpoint of a UNet model", "unet", width, family, frozenset(holds | {"unet"})
        )
    told = _original_transformer(inside)
    if told is None:
        return None
    what, family, width = told
    if family is None:
        return WeightContents("other", what)
    holds = {_SD3_PARTS.get(part, part) if family.startswith("sd3") else part for part in holds}
    return WeightContents("checkpoint", what, "transformer", width, family, frozenset(holds | {"transformer"}))


_SD3_PARTS = {"text_encoder_2": "text_encoder_3", "clip_g": "text_encoder_2"}


def _beside_denoiser(tensors: Mapping[str, Tensor]) -> Iterable[str]:
    for start, component in (
        ("first_stage_model.", "vae"),
        ("vae.", "vae"),
        ("cond_stage_model.", "text_encoder"),
        ("conditioner.embedders.0.", "text_encoder"),
        ("conditioner.embedders.1.", "text_encoder_2"),
        ("text_encoders.clip_l.", "text_encoder"),
        ("text_encoders.clip_g.", "clip_g"),
        ("text_encoders.t5xxl.", "text_encoder_2"),
    ):
        if any(name.startswith(start) for name in tensors):
            yield component


def _original_transformer(inside: Mapping[str, Tensor]) -> tuple[str, str | None, int | None] | None:
    """Return words, family and width of a transformer in its authors' layout; no family: not one for us."""
    if "single_stream_modulation.lin.weight" in inside:
        return "a checkpoint of FLUX.2", "flux2", None
    if "distilled_guidance_layer.in_proj.bias" in inside:
        return "a checkpoint of Chroma", "chroma", _width(inside, "img_in.weight", 0)
    if any(name.startswith("double_blocks.0.img_attn.norm.key_norm.") for name in inside):
        taken = _width(inside, "img_in.weight", 1)
        if taken not in (64, None):
            return f"a checkpoint of FLUX.1 that takes {taken} channels, not noise alone", None, None
        guided = "guidance_in.in_layer.bias" in inside
        return "a checkpoint of FLUX.1", "flux1-dev" if guided else "flux1-schnell", _width(inside, "img_in.weight", 0)
    if "joint_blocks.0.context_block.adaLN_modulation.1.bias" in inside:
        width = _width(inside, "x_embedder.proj.weight", 0)
        dual = "joint_blocks.0.x_block.attn2.qkv.weight" in inside
        family = "sd3.5-medium" if dual else _SD3_WIDTHS.get(width or 0, "sd3")
        return "a checkpoint of SD 3", family, width
    if "double_layers.0.attn.w1q.weight" in inside:
        return "a checkpoint of AuraFlow", "auraflow", _width(inside, "double_layers.0.attn.w1q.weight", 1)
    return None


def _denoiser(tensors: Mapping[str, Tensor]) -> WeightContents | None:
    """Recognise a denoiser under diffusers' own names."""
    first = tensors.get("conv_in.weight")
    if any("controlnet" in name for name in tensors):
        return WeightContents("other", "a ControlNet, which needs an image")
    if first is not None and any(name.startswith("down_blocks.") for name in tensors):
        width = _commonest(
            t.shape[1] for name, t in tensors.items() if name.endswith("attn2.to_k.weight") and len(t.shape) == 2
        )
        family = UNET_WIDTHS.get(width or 0)
        return WeightContents("denoiser", "a UNet", "unet", width, family, frozenset({"unet"}))
    if any(name.startswith(("transformer_blocks.0.", "layers.0.attention.")) for name in tensors):
        width = _commonest(t.shape[1] for n, t in tensors.items() if n.endswith("to_q.weight") and len(t.shape) == 2)
        family = _transformer_family((name.removesuffix(".weight") for name in tensors), width)
        holds = frozenset({"transformer"})
        return WeightContents("denoiser", "a transformer", "transformer", width, family, holds)
    return None


def _embedding(tensors: Mapping[str, Tensor]) -> WeightContents | None:
    if sum(tensor.elements for tensor in tensors.values()) > _SMALL:
        return None
    vectors = {name: t.shape[-1] for name, t in tensors.items() if len(t.shape) in (1, 2) and t.shape[-1] >= 16}
    if len(vectors) != len(tensors):
        return None
    widths: tuple[int, ...]
    family: str | None
    if {"clip_l", "clip_g"} <= vectors.keys():
        widths, family = (vectors["clip_l"], vectors["clip_g"]), "sdxl"
    elif len(vectors) == 1 and "." not in (name := next(iter(vectors))).strip("."):
        widths, family = (vectors[name],), {768: "sd1", 1024: "sd2-v"}.get(vectors[name])
    else:
        return None
    own = [name for name in vectors if name not in ("clip_l", "clip_g", "emb_params")]
    what = f"learned tokens of width {' and '.join(map(str, widths))}"
    return WeightContents("embedding", what, family=family, text_widths=widths, token=own[0] if own else None)


def _width(tensors: Mapping[str, Tensor], name: str, axis: int) -> int | None:
    tensor = tensors.get(name)
    return tensor.shape[axis] if tensor is not None and len(tensor.shape) > axis else None


def _commonest(numbers: Iterable[int]) -> int | None:
    counts = Counter(numbers)
    return min(counts, key=lambda number: (-counts[number], number)) if counts else None
