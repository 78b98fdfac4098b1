"""How much memory a generator needs for one image: its weights in half precision, and the largest step beside them.

    weights     = sum over files of bytes x 2 / (bytes per element as stored; 2 where that is not known)
    activations = pixels x bytes per pixel
    memory      = weights + activations

The step that needs most beside the weights is, for latent models, the decoder's last block at full resolution:
128 to 256 channels of some five tensors alive at once, about 2.5 kB for each pixel in half precision, twice that where
the decoder is lifted to float32. A pixel model runs its whole UNet there, about 5 kB. Guidance doubles a denoiser's
batch but not the decoder's, and at an eighth of the side the denoiser's activations stay below the decoder's.
An estimate for placing work and for the crawl's report, from the models' shapes; runs measure what was really used.
"""

from collections.abc import Iterable, Sequence

from crawlers.parameters.families import FAMILIES
from crawlers.parameters.family_evidence import Configs
from crawlers.parameters.native_resolution import native_resolution
from crawlers.recognition.safetensors_header import DTYPE_BYTES
from manifests.generator import SamplingParams, WeightFile

_HALF = 2
_DECODER_BYTES = 2_560
"""Bytes for each pixel of the image, in half precision."""
_PIXEL_MODEL_BYTES = 5_120
_FLOAT32_DECODERS = frozenset({"sdxl", "sdxl-vpred", "pony", "illustrious", "playground-v2.5", "kolors"})
"""Families whose autoencoder overflows in float16 and is lifted to float32 for decoding."""
_DEFAULT_SIDE = 512
_VARIANT_DTYPES = {"fp16": "F16", "bf16": "BF16", "fp32": "F32"}


def gpu_memory_bytes(family: str, params: SamplingParams, configs: Configs, weights: Iterable[WeightFile]) -> int:
    """Return the estimate in bytes.

    Args:
        family: key of `crawlers.parameters.families.FAMILIES`.
        params: whose width and height count; where the call takes none, the size that the configs or the family tell.
        weights: every file that is loaded, the base's too.
    """
    side = FAMILIES[family].pixels or _DEFAULT_SIDE
    width, height = native_resolution(configs) or (side, side)
    per_pixel = _PIXEL_MODEL_BYTES if FAMILIES[family].architecture == "PixelDiff" else _DECODER_BYTES
    if family in _FLOAT32_DECODERS:
        per_pixel *= 2
    return half_precision_bytes(weights) + (params.width or width) * (params.height or height) * per_pixel


def half_precision_bytes(weights: Iterable[WeightFile]) -> int:
    """Return what weight files take once loaded in half precision. One byte per element becomes two.

    A file is stored in its `dtype`. Without one, as in catalogs that were made before there was such a field, it is
    stored as its variant says; and where nothing tells, it is taken to be half precision already: at most twice the
    truth for float32.
    """
    return sum(
        file.size * _HALF // DTYPE_BYTES.get(file.dtype or variant_dtype(file.path) or "F16", _HALF)
        for file in weights
        if _is_weights(file)
    )


def with_dtypes(files: Sequence[WeightFile], read: str | None) -> tuple[WeightFile, ...]:
    """Return a repo's files with the types that they are stored in.

    A name that tells its type is taken at its word; else it is `read`, from one file's header. That pipelines are
    saved in one precision is an assumption: of one whose largest part alone is float32, the others count half.

    Args:
        read: as safetensors names it; None where no header could be read.
    """
    return tuple(
        file.model_copy(update={"dtype": variant_dtype(file.path) or read}) if _is_weights(file) else file
        for file in files
    )


def variant_dtype(path: str) -> str | None:
    """Return the type that a file's variant names, such as F16 for `model.fp16.safetensors`."""
    return next((dtype for part in path.rsplit("/", 1)[-1].split(".") if (dtype := _VARIANT_DTYPES.get(part))), None)


def _is_weights(file: WeightFile) -> bool:
    return file.path.endswith((".safetensors", ".bin"))
