"""The precision that `auto` gives each family, decided when the work is planned and from nothing but data.

On an accelerator a family is sampled as its authors publish it: a network trained in bfloat16 keeps activations that
float16 cannot hold (its largest number is 65,504), and one that was published in float16 loses digits in bfloat16 for
nothing. On a CPU every family is sampled in float32: half precision is slower there, and no device memory is saved.
"""

from manifests.generator import Dtype

_UNKNOWN: Dtype = "bfloat16"
"""For families without a row: bfloat16 has float32's range, so nothing that ran in training overflows."""

FAMILY_DTYPES: dict[str, Dtype] = {
    # Latent UNets of the first generation: trained with float16 autocast, published as fp16, never seen to overflow.
    "sd1": "float16",
    "sd2-base": "float16",
    "sd2-v": "float16",  # diffusers lifts the attention of the 768-v model by itself (upcast_attention in its config)
    "altdiffusion": "float16",
    "lcm": "float16",
    "ldm": "float16",
    "ldm-text": "float16",
    "vq-diffusion": "float32",  # log-probabilities over thousands of codes, down to log(1e-30)
    # SDXL and what is made like it: the UNet in float16, as published. Its VAE does overflow there; see
    # `samplers.latent_decoding`, which decodes in float32.
    "sdxl": "float16",
    "sdxl-vpred": "float16",
    "pony": "float16",
    "illustrious": "float16",
    "playground-v2.5": "float16",
    "kolors": "float16",  # only an fp16 variant is published; ChatGLM3 was trained in it
    # Transformers trained in bfloat16: their residual streams and their text encoders (T5, Gemma, Llama, Qwen, GLM)
    # leave float16's range.
    "sd3": "bfloat16",
    "flux1-dev": "bfloat16",
    "flux1-schnell": "bfloat16",
    "flux2": "bfloat16",
    "flux2-klein": "bfloat16",
    "flux2-klein-base": "bfloat16",
    "chroma": "bfloat16",
    "pixart-alpha": "bfloat16",
    "pixart-sigma": "bfloat16",
    "sana": "bfloat16",  # also its deep-compression autoencoder, which has no setting that lifts it
    "sana-sprint": "bfloat16",
    "prx": "bfloat16",
    "hunyuan-image": "bfloat16",
    "auraflow": "bfloat16",
    "hidream": "bfloat16",
    "hidream-dev": "bfloat16",
    "hidream-fast": "bfloat16",
    "qwen-image": "bfloat16",
    "z-image": "bfloat16",
    "z-image-turbo": "bfloat16",
    "lumina-next": "bfloat16",
    "lumina2": "bfloat16",
    "cogview3": "bfloat16",
    "cogview4": "bfloat16",
    "ovis-image": "bfloat16",
    "longcat-image": "bfloat16",
    "bria": "bfloat16",
    "omnigen": "bfloat16",
    "kandinsky5": "bfloat16",
    # Published and documented in float16. DeepFloyd's T5 is safe in it, because transformers keeps the one layer of
    # T5 that overflows (`wo`) in float32.
    "hunyuan-dit": "float16",
    "kandinsky3": "float16",
    "deepfloyd-if": "float16",
    "unclip": "float16",
    "amused": "float16",
    "dit": "float16",
    # Small pixel models, published in float32 only, whose hundreds of steps add up what each rounds away.
    "ddpm": "float32",
    "ddim": "float32",
    "pndm": "float32",
    "score-sde": "float32",
    "karras-ve": "float32",
    "consistency": "float32",
}
"""The precision in which each family's authors publish and run it."""


def automatic_dtype(family: str, device_memory: int) -> Dtype:
    """Return the precision for `family` on a device with `device_memory` bytes; 0 bytes are a CPU."""
    return FAMILY_DTYPES.get(family, _UNKNOWN) if device_memory > 0 else "float32"
