"""The size that a model was trained at, from its configs: latent side times the VAE's reduction."""

from typing import Any

from crawlers.parameters.family_evidence import Configs

_DENOISERS = ("transformer", "unet", "prior", "transformer_2")


def native_resolution(configs: Configs) -> tuple[int, int] | None:
    """Return (width, height) in pixels, or None where the configs do not tell.

    The denoiser's `sample_size` counts latent pixels; without a VAE it counts pixels.
    """
    sides = next((_sides(configs[name].get("sample_size")) for name in _DENOISERS if name in configs), None)
    if sides is None:
        return None
    factor = _reduction(next((configs[name] for name in ("vae", "vqvae", "movq") if name in configs), None))
    if factor is None:
        return None
    height, width = (side * factor for side in sides)
    return (width, height) if all(8 <= side <= 8192 for side in (width, height)) else None


def _sides(sample_size: Any) -> tuple[int, int] | None:
    pair = sample_size if isinstance(sample_size, list) and len(sample_size) == 2 else [sample_size, sample_size]
    if all(isinstance(side, int) and not isinstance(side, bool) and 0 < side <= 8192 for side in pair):
        return pair[0], pair[1]
    return None


def _reduction(vae: Any) -> int | None:
    """Return by how much a VAE shrinks each side: every block but the last halves it."""
    if vae is None:
        return 1
    for key in ("encoder_block_out_channels", "block_out_channels"):
        if isinstance(blocks := vae.get(key), list) and blocks:
            return int(2 ** (len(blocks) - 1))
    if isinstance(steps := vae.get("temperal_downsample"), list):  # the library's own spelling
        return int(2 ** len(steps))
    return None
