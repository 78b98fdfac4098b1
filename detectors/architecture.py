"""What a detector architecture is: one frozen record that training, testing and prediction all read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator
from torch import nn

from manifests.frozen import FrozenModel

Recipe = Literal["community-forensics", "none"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Preprocessing(FrozenModel):
    """The test-time transform: RGB, resize the short side, crop the centre, scale to [0, 1], normalise."""

    resize_short_side: int = Field(ge=1, description="pixels")
    crop: int = Field(ge=1, description="pixels; the side of the square the network sees")
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @model_validator(mode="after")
    def _crop_fits(self) -> "Preprocessing":
        if self.crop > self.resize_short_side:
            raise ValueError(f"crop {self.crop} is larger than resize_short_side {self.resize_short_side}")
        return self


class PublishedWeights(FrozenModel):
    """Where an architecture's published weights are, and what their file must hold."""

    repo_id: str = Field(description="hub repo, owner/name")
    key_prefix: str = Field(description="prefix of every tensor's name in the file")
    tensors: int = Field(ge=1, description="number of tensors in model.safetensors")
    license: str


class ArchitectureConfig(FrozenModel):
    """Everything that train and test must agree on, kept beside the weights in detector.json."""

    name: str
    description: str
    input_size: int = Field(ge=1, description="pixels; height and width of the network's input")
    backbone: str = Field(description="timm model name")
    backbone_options: dict[str, int | float | bool | str] = Field(
        default_factory=dict, description="arguments of timm.create_model besides num_classes"
    )
    preprocessing: Preprocessing
    augmentation: Recipe = "community-forensics"
    published: PublishedWeights | None = None
    backbone_weights: str | None = Field(
        default=None, description="hub repo of the pretrained backbone that the paper starts from"
    )
    license: str = Field(description="licence of the backbone's code and weights")
    paper: str

    @model_validator(mode="after")
    def _crop_is_input(self) -> "ArchitectureConfig":
        if self.preprocessing.crop != self.input_size:
            raise ValueError(f"crop {self.preprocessing.crop} is not input_size {self.input_size}")
        return self


@dataclass(frozen=True)
class Architecture:
    """A config and the function that turns it into a network of one logit per image (N, 3, S, S) -> (N,)."""

    config: ArchitectureConfig
    build: Callable[[ArchitectureConfig], nn.Module]
