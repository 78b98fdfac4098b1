"""Score image files with a detector."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from pydantic import Field

from detectors.devices import DeviceName, cpu_threads
from detectors.metrics import THRESHOLD
from detectors.preprocessing import InferenceTransform, UnreadableImage, decode_rgb
from detectors.saved_detector import load_detector
from manifests.errors import InputError
from manifests.frozen import FrozenModel


class Prediction(FrozenModel):
    """The score of one file, or why it has none."""

    path: str
    score: float | None = Field(default=None, description="probability of fake")
    label_at_0_5: int | None = Field(default=None, description="1 (fake) when the score is above 0.5, else 0 (real)")
    error: str | None = None


def predict(
    detector_dir: Path,
    paths: Sequence[Path],
    *,
    batch_size: int = 16,
    device: DeviceName = "auto",
    threads: int = 1,
) -> list[Prediction]:
    """Return one prediction per file, in order; a folder stands for the image files below it, in name order.

    A file that is missing, unreadable or not an image has an `error` and no score.

    Raises:
        InputError: no paths, a folder without images, or no detector in `detector_dir`.
    """
    if not paths:
        raise InputError("predict: no paths given; name image files or folders with images")
    files = [file for path in paths for file in _expand(Path(path))]
    detector = load_detector(detector_dir, device)
    transform = InferenceTransform(detector.config.preprocessing)
    predictions: dict[int, Prediction] = {}
    with cpu_threads(threads):
        for numbers, tensors in _readable_batches(files, transform, batch_size, predictions):
            scores = detector.logits(torch.stack(tensors)).double().sigmoid().tolist()
            for number, score in zip(numbers, scores, strict=True):
                predictions[number] = Prediction(
                    path=str(files[number]), score=score, label_at_0_5=int(score > THRESHOLD)
                )
    return [predictions[number] for number in range(len(files))]


def _readable_batches(
    files: Sequence[Path], transform: InferenceTransform, batch_size: int, errors: dict[int, Prediction]
) -> Iterator[tuple[list[int], list[torch.Tensor]]]:
    numbers: list[int] = []
    tensors: list[torch.Tensor] = []
    for number, file in enumerate(files):
        try:
            tensors.append(transform(decode_rgb(file.read_bytes())))
        except OSError as error:
            errors[number] = Prediction(path=str(file), error=f"cannot read the file: {error.strerror or error}")
            continue
        except UnreadableImage as error:
            errors[number] = Prediction(path=str(file), error=str(error))
            continue
        numbers.append(number)
        if len(numbers) == batch_size:
            yield numbers, tensors
            numbers, tensors = [], []
    if numbers:
        yield numbers, tensors


def _expand(path: Path) -> Iterable[Path]:
    if not path.is_dir():
        return [path]
    suffixes = Image.registered_extensions()
    found = sorted(file for file in path.rglob("*") if file.is_file() and file.suffix.lower() in suffixes)
    if not found:
        raise InputError(f"{path}: no image files in this folder")
    return found
