"""The resumable state of a training run: one file, replaced at once, so a kill at any moment leaves a whole one."""

import pickle
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from manifests.errors import InputError
from shards import storage

FORMAT_VERSION = 1


@dataclass
class TrainingState:
    """Everything that the rest of a run depends on, besides its config and data.

    The learning rate, the order of samples, augmentation and dropout are functions of the config's seed and of
    `iteration`, so no random state is stored.
    """

    identity: dict[str, str]
    """What must not change between interruption and resume: setting -> value."""
    iteration: int
    """Optimiser steps done."""
    model: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any] | None
    """Gradient scaler of fp16 training."""
    best_model: dict[str, torch.Tensor] | None = None
    validations: list[dict[str, Any]] = field(default_factory=list)
    format_version: int = FORMAT_VERSION


def save_state(path: Path, state: TrainingState) -> None:
    """Write `state` to `path`, durably and at once."""
    storage.make_folder(path.parent)
    temporary = storage.temporary_beside(path)
    try:
        torch.save({name: getattr(state, name) for name in state.__dataclass_fields__}, temporary)
        storage.publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_state(path: Path) -> TrainingState | None:
    """Return the state in `path` with tensors on the CPU; None when there is none. InputError when it is damaged."""
    if not path.exists():
        return None
    if not zipfile.is_zipfile(path):  # which every file of torch.save is; the unpickler's errors on others are many
        raise InputError(f"{path}: not a training checkpoint; remove it to start the training anew")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = TrainingState(**content)
    except (RuntimeError, OSError, EOFError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise InputError(f"{path}: not a training checkpoint: {error}; remove it to start the training anew") from error
    if state.format_version != FORMAT_VERSION:
        raise InputError(f"{path}: format_version is {state.format_version}; this release reads {FORMAT_VERSION}")
    return state
