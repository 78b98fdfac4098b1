"""What `auto` decides for each generator when its units are planned: precision and batch size; and what it takes up.

Nothing here asks a machine. The config's `sample.device_memory` says what is planned for (0: a CPU), and the catalog
says what a model weighs, so a plan made anywhere, at any time, is the same plan.
"""

from collections import defaultdict
from pathlib import PurePosixPath

from crawlers.parameters.families import FAMILIES
from crawlers.recognition.memory_estimate import gpu_memory_bytes, half_precision_bytes
from manifests.generator import Dtype, GeneratorSpec, WeightFile
from pipeline.config import SampleConfig
from samplers.device_memory import usable_bytes
from samplers.precision import automatic_dtype

_LARGEST_BATCH = 64
_DEVICE_PIXELS = 4 << 20
"""Pixels of a batch beyond which a GPU gains next to nothing, while each padded batch of replacements costs more: 16
images of 512 x 512, or 4 of 1024 x 1024."""
_CPU_PIXELS = 1 << 20
_CPU_BATCH = 4
"""A CPU gains little from batches at all."""
_UNKNOWN_FAMILY = "sdxl"
"""Stands in for families without a row: large, and with the costliest decoder."""
_HALF_TO_DTYPE = {"float32": 2, "float16": 1, "bfloat16": 1}


def planned_dtype(generator: GeneratorSpec, sample: SampleConfig) -> Dtype:
    """Return the precision of the generator's units: its manifest's, else the run's, else its family's own.

    Raises:
        ValueError: `auto` before `sample.device_memory` is pinned.
    """
    if generator.dtype is not None:
        return generator.dtype
    return automatic_dtype(generator.family, pinned_memory(sample)) if sample.dtype == "auto" else sample.dtype


def planned_batch_size(generator: GeneratorSpec, sample: SampleConfig) -> int:
    """Return the batch size of the generator's units: the run's, else what the device holds.

    Raises:
        ValueError: `auto` before `sample.device_memory` is pinned.
    """
    if sample.batch_size != "auto":
        return sample.batch_size
    return fitting_batch_size(generator, planned_dtype(generator, sample), pinned_memory(sample), sample.unit_images)


def pinned_memory(sample: SampleConfig) -> int:
    """Return the bytes that `auto` plans for."""
    if sample.device_memory is None:
        raise ValueError("sample.device_memory is pinned before anything is planned")
    return int(sample.device_memory)


def fitting_batch_size(generator: GeneratorSpec, dtype: Dtype, device_memory: int, unit_images: int) -> int:
    """Return the largest useful power of two: at most 64, `unit_images` and what fits beside the whole model.

    A model that does not fit whole gets 1, and is offloaded by the worker that loads it. More memory never gives a
    smaller batch; more pixels or a heavier model never a larger one.
    """
    width, height = image_size(generator)
    limit = min(_LARGEST_BATCH, unit_images)
    if device_memory == 0:
        limit = min(limit, _CPU_BATCH, _CPU_PIXELS // (width * height))
    else:
        room = usable_bytes(device_memory) - model_bytes(generator, dtype)
        limit = min(limit, _DEVICE_PIXELS // (width * height), room // activation_bytes(generator, dtype, 1))
    return 1 << max(0, limit.bit_length() - 1) if limit > 0 else 1


def image_size(generator: GeneratorSpec) -> tuple[int, int]:
    """Return width and height of the generator's images, pixels; what its parameters leave open is its family's."""
    native = FAMILIES[_row(generator)].pixels or 512
    return generator.params.width or native, generator.params.height or native


def activation_bytes(generator: GeneratorSpec, dtype: Dtype, batch_size: int) -> int:
    """Return what a batch takes beside the weights: the decoder's last block, as `memory_estimate` has it."""
    one = gpu_memory_bytes(_row(generator), generator.params, {}, ())
    return one * batch_size * _HALF_TO_DTYPE[dtype]


def model_bytes(generator: GeneratorSpec, dtype: Dtype) -> int:
    """Return what all weights take in `dtype`, the base's included.

    Files of which nobody knows how they are stored (the catalog is of an older version, or a manifest lists them) are
    taken to be half precision: at most twice the truth.
    """
    return half_precision_bytes(_files(generator)) * _HALF_TO_DTYPE[dtype]


def largest_component_bytes(generator: GeneratorSpec, dtype: Dtype) -> int:
    """Return what the largest component takes; files of one folder are one component."""
    folders: dict[PurePosixPath, list[WeightFile]] = defaultdict(list)
    for file in _files(generator):
        folders[PurePosixPath(file.path).parent].append(file)
    largest = max((half_precision_bytes(files) for files in folders.values()), default=0)
    return largest * _HALF_TO_DTYPE[dtype]


def _files(generator: GeneratorSpec) -> tuple[WeightFile, ...]:
    return generator.files + (generator.base.files if generator.base is not None else ())


def _row(generator: GeneratorSpec) -> str:
    return generator.family if generator.family in FAMILIES else _UNKNOWN_FAMILY
