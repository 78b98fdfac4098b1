"""In which precision latents become pixels. Some VAEs overflow in float16 and leave black images.

The rule looks at configs, never at an image, so equal units are decoded alike: a float16 VAE is lifted to float32 for
the decoding when its config says `force_upcast`, which is the class's default. Two kinds of VAE are the exception:

* SD 1.x and 2.x's, told by its scaling factor: it decodes in float16 wherever it is used, and lifting it would cost
  time for nothing. SDXL's config names another factor; SDXL's repaired VAE says `force_upcast: false`.
* one that the pipeline lifts by itself, as SDXL's and Kolors' do: we leave that to the pipeline.

What still overflows is NaN, so the draw is degenerate and never stored. It is not decoded again in float32: then the
bytes of an image would depend on which path its values happened to take.
"""

from functools import partial
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import nn

_SAFE_SCALING_FACTOR = 0.18215
"""The scaling factor of the VAE that SD 1.x and 2.x share (Rombach et al. 2022, KL-f8)."""


def prepare_decoding(pipeline: Any) -> str | None:
    """Have the pipeline's VAE decode in a precision that holds its activations, and return that precision.

    Call it once the pipeline is assembled. The module may be shared with other pipelines and may be prepared twice;
    for one whose latents come in float32 nothing changes. Returns None when the pipeline has no VAE.
    """
    vae = getattr(pipeline, "vae", None)
    if not isinstance(vae, nn.Module):
        return None
    dtype = _dtype_name(vae)
    if not _overflows(vae):
        return dtype
    if not hasattr(pipeline, "upcast_vae"):
        vae.decode = partial(_decode_lifted, vae)  # type: ignore[assignment]
    return "float32"


def _overflows(vae: nn.Module) -> bool:
    return (
        isinstance(vae, AutoencoderKL)
        and vae.dtype == torch.float16
        and bool(vae.config.force_upcast)
        and vae.config.scaling_factor != _SAFE_SCALING_FACTOR
    )


def _decode_lifted(vae: AutoencoderKL, latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    """Decode in float32 and leave the module as it was; the pixels stay float32, as from SDXL's own pipeline."""
    before = vae.dtype
    vae.to(torch.float32)
    try:
        return type(vae).decode(vae, latents.float(), *args, **kwargs)
    finally:
        vae.to(before)


def _dtype_name(module: nn.Module) -> str:
    dtypes = sorted({str(parameter.dtype).removeprefix("torch.") for parameter in module.parameters()})
    return "+".join(dtypes)
