"""BLIP, the captioner of Community Forensics' prompts (Li et al. 2022), through transformers, from a local folder.

Captions are deterministic within one environment: no sampling, and batches of one frozen size. A short last batch is
filled with copies of its last image, because the size of a batch changes its sums and can change a word.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image, ImageOps
from safetensors import SafetensorError
from transformers import BlipForConditionalGeneration, BlipProcessor

from shards.statuses import Reason, UnitFailure

_MODEL_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What transformers, tokenizers and torch raise for a model that is broken."""

_NEEDED_FILES = (
    ("config.json",),
    ("preprocessor_config.json", "processor_config.json"),
    ("model.safetensors", "model.safetensors.index.json"),
    ("tokenizer.json", "vocab.txt"),
)
"""Of each group, one must be there."""


@dataclass(frozen=True)
class CaptionSettings:
    """All that a caption depends on besides model, image and environment."""

    batch_size: int = 8
    max_new_tokens: int = 30
    num_beams: int = 1
    """1 is greedy decoding"""


class BlipCaptioner:
    """A loaded BLIP. `settings` and `dtype` are what its captions depend on."""

    def __init__(
        self, model: BlipForConditionalGeneration, processor: BlipProcessor, device: str, settings: CaptionSettings
    ) -> None:
        """Use `load`."""
        self._model = model
        self._processor = processor
        self._device = device
        self.settings = settings

    @classmethod
    def load(
        cls,
        folder: Path,
        device: str,
        dtype: str,
        *,
        batch_size: int = 8,
        max_new_tokens: int = 30,
        num_beams: int = 1,
    ) -> Self:
        """Load model and processor from `folder`, safetensors only; `dtype` is float32, float16 or bfloat16.

        Raises:
            UnitFailure: `missing_file`, `bad_config`, `corrupt_weights` (also for weights that lack a tensor or have
                one of another shape), `invalid_pipeline` for what fits none of these, `device_oom`, `host_oom`.
        """
        settings = CaptionSettings(batch_size, max_new_tokens, num_beams)
        _check_files(folder)
        with _load_failures(folder):
            processor = BlipProcessor.from_pretrained(folder, local_files_only=True)
            model, report = BlipForConditionalGeneration.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=getattr(torch, dtype),
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
            # transformers fills what is missing or misshapen with random numbers and only warns.
            lacking = sorted([*report["missing_keys"], *(key[0] for key in report["mismatched_keys"])])
            if lacking:
                detail = f"{folder}: {len(lacking)} tensors missing or misshapen, first {lacking[0]}"
                raise UnitFailure(Reason.corrupt_weights, detail)
            model = model.to(device).eval()
        return cls(model, processor, device, settings)

    @property
    def record(self) -> dict[str, Any]:
        """The settings of decoding, as JSON holds them."""
        return {**asdict(self.settings), "do_sample": False, "dtype": str(self._model.dtype).removeprefix("torch.")}

    def caption(self, images: Sequence[Image.Image | Path]) -> list[str]:
        """Return one caption for each image, in order; a path is opened when its batch comes.

        Images are turned upright by their EXIF orientation and made RGB first.

        Raises:
            UnitFailure: `missing_file` when a path cannot be read as an image, `device_oom`, `host_oom`, or
                `sampling_error` when the model fails.
        """
        captions: list[str] = []
        size = self.settings.batch_size
        for start in range(0, len(images), size):
            batch = [_upright_rgb(image) for image in images[start : start + size]]
            padded = batch + [batch[-1]] * (size - len(batch))
            captions += self._caption_batch(padded)[: len(batch)]
        return captions

    def close(self) -> None:
        """Give the model's memory back; the captioner is not used afterwards."""
        del self._model
        if self._device.startswith("cuda"):
            torch.cuda.empty_cache()

    def _caption_batch(self, images: list[Image.Image]) -> list[str]:
        with _calling_failures(), torch.inference_mode():
            pixels = self._processor(images=images, return_tensors="pt")["pixel_values"]
            tokens = self._model.generate(
                pixel_values=pixels.to(self._device, self._model.dtype),
                do_sample=False,
                num_beams=self.settings.num_beams,
                max_new_tokens=self.settings.max_new_tokens,
            )
            texts: list[str] = self._processor.batch_decode(tokens, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]


def _check_files(folder: Path) -> None:
    """Check what transformers would report with one exception for many causes."""
    if not folder.is_dir():
        raise UnitFailure(Reason.missing_file, f"{folder}: there is no such folder")
    for names in _NEEDED_FILES:
        if not any((folder / name).is_file() for name in names):
            raise UnitFailure(Reason.missing_file, f"{folder}: {' or '.join(names)} is missing")
    for file in sorted(folder.glob("*.json")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UnitFailure(Reason.bad_config, f"{file}: not JSON: {error}") from error
        if not isinstance(content, dict):
            raise UnitFailure(Reason.bad_config, f"{file}: not a JSON object")
        if file.name == "config.json" and content.get("model_type") != "blip":
            found = content.get("model_type")
            raise UnitFailure(Reason.bad_config, f"{file}: model_type is {found!r}; this captioner is for 'blip'")


@contextmanager
def _load_failures(folder: Path) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UnitFailure(Reason.device_oom, f"{folder}: {error}") from error
    except MemoryError as error:
        raise UnitFailure(Reason.host_oom, f"{folder}: {error}") from error
    except SafetensorError as error:
        raise UnitFailure(Reason.corrupt_weights, f"{folder}: {error}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UnitFailure(Reason.bad_config, f"{folder}: {error}") from error
    except _MODEL_ERRORS as error:
        raise UnitFailure(Reason.invalid_pipeline, f"{folder}: {type(error).__name__}: {error}") from error


@contextmanager
def _calling_failures() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UnitFailure(Reason.device_oom, f"captioning: {error}") from error
    except MemoryError as error:
        raise UnitFailure(Reason.host_oom, f"captioning: {error}") from error
    except _MODEL_ERRORS as error:
        raise UnitFailure(Reason.sampling_error, f"captioning: {type(error).__name__}: {error}") from error


def _upright_rgb(image: Image.Image | Path) -> Image.Image:
    if isinstance(image, Image.Image):
        return ImageOps.exif_transpose(image).convert("RGB")
    try:
        with Image.open(image) as opened:
            return ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise UnitFailure(Reason.missing_file, f"{image}: cannot be read as an image: {error}") from error
