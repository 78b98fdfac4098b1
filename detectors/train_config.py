"""The settings of one training run. The defaults are Community Forensics' (section 4 and the released code)."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from detectors.selection import Selection
from detectors.training_stream import Balance
from manifests.errors import InputError

RUNTIME_KEYS = frozenset({"workers", "device", "checkpoint_every", "log_every"})
"""Settings that do not change the result, or only as hardware does; a resumed run may change them."""


class TrainConfig(BaseModel):
    """Strict: unknown keys and values of another type are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    architecture: str = Field(default="commfor-vit-s-384", description="name in detectors.registry")
    selection: Selection = Field(default=Selection(split="train"), description="the images to train on")
    iterations: int = Field(default=52_000, ge=1, description="optimiser steps (3,000 in the paper's studies)")
    batch_size: int = Field(default=512, ge=1, description="images per optimiser step, over all processes")
    gradient_accumulation: int = Field(default=1, ge=1, description="micro-batches per optimiser step")
    learning_rate: float = Field(default=2e-5, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    warmup_fraction: float = Field(default=0.2, ge=0, lt=1, description="share of iterations with linear warm-up")
    final_learning_rate_factor: float = Field(default=1e-3, ge=0, le=1, description="cosine decay ends at this share")
    gradient_clip: float = Field(default=1.0, gt=0, description="largest L2 norm of all gradients together")
    balance: Balance = Field(default="none", description="how samples are drawn; see SampleOrder")
    augmentation: Literal["community-forensics", "none"] | None = Field(
        default=None, description="overrides the architecture's recipe"
    )
    validation_fraction: float = Field(default=0.01, gt=0, le=0.5, description="share of training images held out")
    validate_every: int = Field(
        default=1000, ge=1, description="iterations between validations; the last always is one"
    )
    seed: int = Field(default=0, ge=0, lt=2**63)
    mixed_precision: Literal["auto", "no", "fp16", "bf16"] = Field(
        default="auto", description="auto: fp16 on CUDA, as in the paper; no elsewhere"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    cpu_threads: int = Field(default=1, ge=1, description="torch threads; results on CPU depend on it")
    workers: int = Field(
        default=0, ge=0, description="loader processes per training process; results do not depend on it"
    )
    checkpoint_every: int = Field(default=500, ge=1, description="iterations between resumable checkpoints")
    log_every: int = Field(default=10, ge=1, description="iterations between progress reports")
    initial_backbone: Path | None = Field(
        default=None, strict=False, description="folder or file of the pretrained timm backbone; its head is replaced"
    )
    initial_detector: Path | None = Field(
        default=None, strict=False, description="folder of a detector to fine-tune: ours or a published one"
    )

    @model_validator(mode="after")
    def _one_start(self) -> "TrainConfig":
        if self.initial_backbone is not None and self.initial_detector is not None:
            raise ValueError("initial_backbone and initial_detector exclude each other")
        if self.batch_size % self.gradient_accumulation:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of gradient_accumulation {self.gradient_accumulation}"
            )
        return self


def parse_train_config(values: dict[str, object], where: str = "training config") -> TrainConfig:
    """Return the validated config. Raises InputError naming each key at fault, its value and what is allowed."""
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']) or 'config'} = {problem['input']!r}: {problem['msg']}"
            for problem in error.errors()
        )
        allowed = ", ".join(TrainConfig.model_fields)
        raise InputError(f"{where}: {problems} (keys: {allowed})") from error
