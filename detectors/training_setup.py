"""What a training config means on this machine: which architecture, which precision, which weights to start from."""

import torch
from torch import nn

from detectors.architecture import Architecture
from detectors.registry import get_architecture
from detectors.saved_detector import load_detector
from detectors.train_config import TrainConfig
from detectors.weights import load_backbone
from manifests.errors import InputError


def configured_architecture(config: TrainConfig) -> Architecture:
    """Return the registered architecture, with the config's augmentation when it names one."""
    architecture = get_architecture(config.architecture)
    if config.augmentation is None:
        return architecture
    changed = architecture.config.model_copy(update={"augmentation": config.augmentation})
    return Architecture(changed, architecture.build)


def training_precision(config: TrainConfig, device: torch.device) -> str:
    """Return accelerate's name of the mixed precision; InputError when the device does not support the one named."""
    if config.mixed_precision == "auto":
        return "fp16" if device.type == "cuda" else "no"
    allowed = {"cuda": ("no", "fp16", "bf16"), "cpu": ("no", "bf16"), "mps": ("no",)}[device.type]
    if config.mixed_precision not in allowed:
        raise InputError(
            f"mixed_precision {config.mixed_precision!r} is not supported on {device.type}; "
            f"allowed: auto, {', '.join(allowed)}"
        )
    return config.mixed_precision


def load_initial_weights(model: nn.Module, config: TrainConfig) -> None:
    """Load the weights that the config asks for, if any, into a freshly built network.

    Raises:
        InputError: the weights are missing, do not fit, or are of another architecture.
    """
    if config.initial_backbone is not None:
        load_backbone(model, config.initial_backbone)
    if config.initial_detector is not None:
        start = load_detector(config.initial_detector, "cpu")
        if start.config.name != config.architecture:
            raise InputError(
                f"initial_detector {config.initial_detector} is a {start.config.name}, "
                f"but architecture is {config.architecture}"
            )
        model.load_state_dict(start.model.state_dict())
