"""The toy pipelines' image decoders: AutoencoderKL with random weights that make texture instead of flat grey."""

from typing import TYPE_CHECKING

from pipeline.demo.toy_weights import scale_convolution, seeded

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

VAE_SCALE = 8
"""Pixels per latent, as in every published AutoencoderKL of these families."""


def autoencoder(
    seed: int,
    name: str,
    *,
    channels: tuple[int, int, int, int] = (16, 32, 32, 32),
    latent_channels: int = 4,
    contrast: float = 0.35,
    scaling_factor: float = 0.18215,
    shift_factor: float | None = None,
    quantised: bool = True,
) -> "AutoencoderKL":
    """Return an AutoencoderKL for 64 × 64 pixels and 8 × 8 latents; images span `contrast` of [-1, 1]."""
    from diffusers import AutoencoderKL

    with seeded(seed, name):
        vae = AutoencoderKL(
            sample_size=8 * VAE_SCALE,
            block_out_channels=channels,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=latent_channels,
            norm_num_groups=8,
            scaling_factor=scaling_factor,
            shift_factor=shift_factor,
            use_quant_conv=quantised,
            use_post_quant_conv=quantised,
        ).eval()
        scale_convolution(vae.decoder.conv_out, contrast)
    return vae
