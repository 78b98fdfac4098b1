"""A detector on disk: `model.safetensors` beside `detector.json`, which says all that a score depends on.

The JSON is written last, so a folder with a detector.json is complete. Folders of the published detectors
(`config.json` + `model.safetensors`, as on the hub) load as they are.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError
from safetensors.torch import save_file
from torch import nn

from detectors.architecture import ArchitectureConfig
from detectors.devices import DeviceName, resolve_device
from detectors.registry import get_architecture, published_architecture
from detectors.train_config import TrainConfig
from detectors.weights import WEIGHTS_FILE, load_strict, read_weights
from manifests.errors import InputError
from manifests.frozen import FrozenModel
from shards import storage
from shards.identifiers import sha256_file

RECORD_FILE = "detector.json"
TRAINING_ROWS_FILE = "training_rows.parquet"
"""Columns image_id, photograph, generator, label, part ("training" or "validation")."""

_LIBRARIES = ("torch", "torchvision", "timm", "accelerate", "pillow", "opencv-python-headless", "numpy")


class ValidationPoint(FrozenModel):
    """One validation of a training run, on the held-out part of the training images."""

    iteration: int = Field(description="optimiser steps done")
    ap: float
    auc: float
    loss: float = Field(description="mean binary cross-entropy")


class TrainingData(FrozenModel):
    """Which images a detector was trained on."""

    dataset: str = Field(description="the dataset's name")
    dataset_identity: dict[str, Any] = Field(description="the dataset's identity settings")
    dataset_fingerprint: str = Field(description="changes when any committed file does")
    selection_fingerprint: str = Field(description="changes when the selected images do")
    generators: tuple[str, ...] = Field(description="generators whose fakes were trained on")
    training_images: dict[str, int] = Field(description="real, fake -> images")
    validation_images: dict[str, int] = Field(description="real, fake -> images held out to choose the checkpoint")


class DetectorRecord(FrozenModel):
    """The content of detector.json."""

    format_version: Literal[1] = 1
    architecture: ArchitectureConfig
    weights_sha256: str = Field(description="hex digest of model.safetensors")
    training: TrainConfig
    data: TrainingData
    validation: ValidationPoint = Field(description="of the checkpoint that was kept: the highest AP, then lowest loss")
    validations: tuple[ValidationPoint, ...]
    versions: dict[str, str]


@dataclass(frozen=True)
class Detector:
    """A loaded detector in evaluation mode, on its device."""

    folder: Path
    config: ArchitectureConfig
    model: nn.Module
    device: torch.device
    weights_sha256: str
    record: DetectorRecord | None
    """None for a published detector."""

    @torch.inference_mode()
    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Return float32 logits (N,) on the CPU of normalised images (N, 3, S, S)."""
        output: torch.Tensor = self.model(images.to(self.device))
        return output.float().cpu()


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that training and scoring depend on."""
    return {name: version(name) for name in _LIBRARIES}


def save_detector(folder: Path, weights: Mapping[str, torch.Tensor], record: DetectorRecord) -> DetectorRecord:
    """Write the weights and then the record, each at once; returns the record with the weights' hash."""
    storage.make_folder(folder)
    temporary = storage.temporary_beside(folder / WEIGHTS_FILE)
    try:
        save_file({name: tensor.contiguous().cpu() for name, tensor in weights.items()}, temporary)
        digest = sha256_file(temporary)
        storage.publish(temporary, folder / WEIGHTS_FILE)
    finally:
        temporary.unlink(missing_ok=True)
    record = record.model_copy(update={"weights_sha256": digest})
    storage.replace(folder / RECORD_FILE, record.model_dump_json(indent=2).encode() + b"\n")
    return record


def read_record(folder: Path) -> DetectorRecord:
    """Return the content of `folder`/detector.json. InputError when it is missing or damaged."""
    path = folder / RECORD_FILE
    try:
        return DetectorRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; a detector is a folder with {RECORD_FILE} and {WEIGHTS_FILE}"
        ) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def load_detector(folder: Path, device: DeviceName = "auto") -> Detector:
    """Load a detector of ours, or a published one, with strict keys; never random weights.

    Raises:
        InputError: no detector there, weights that are not the recorded ones, or keys that do not fit.
    """
    folder = Path(folder)
    target = resolve_device(device)
    record = None
    if (folder / RECORD_FILE).is_file():
        record = read_record(folder)
        config = record.architecture
    elif (folder / "config.json").is_file():
        config = _published_config(folder / "config.json")
    else:
        raise InputError(
            f"{folder}: no detector here; expected {WEIGHTS_FILE} with {RECORD_FILE} (ours) or config.json (published)"
        )
    tensors = read_weights(folder)
    digest = sha256_file(folder / WEIGHTS_FILE)
    if record is not None and digest != record.weights_sha256:
        raise InputError(
            f"{folder / WEIGHTS_FILE}: its SHA-256 is {digest}, but {RECORD_FILE} records {record.weights_sha256}; "
            "the weights were changed or damaged"
        )
    with torch.device("meta"):  # no memory and no random weights: every tensor comes from the file
        model = get_architecture(config.name).build(config)
    load_strict(model, tensors, folder / WEIGHTS_FILE)
    return Detector(folder, config, model.to(target).eval(), target, digest, record)


def _published_config(path: Path) -> ArchitectureConfig:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    size = content.get("input_size") if isinstance(content, dict) else None
    kind = (content.get("model_size"), content.get("patch_size")) if isinstance(content, dict) else None
    if not isinstance(size, int) or kind != ("small", 16):
        raise InputError(
            f"{path}: not a published detector's config; "
            "allowed: model_size 'small', patch_size 16, input_size 224 or 384"
        )
    return published_architecture(size).config
