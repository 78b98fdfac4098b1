"""A timm vision transformer with one logit: the network of Community Forensics at any size."""

import timm
import torch
from torch import nn

from detectors.architecture import ArchitectureConfig


class VisionTransformerDetector(nn.Module):
    """timm ViT whose head is Linear(width, 1).

    The backbone is the attribute `vit`, so that the state dict has the names of the published weights:
    152 tensors for ViT-S, each with the prefix `vit.`.
    """

    def __init__(self, config: ArchitectureConfig) -> None:
        super().__init__()
        self.vit = timm.create_model(
            config.backbone,
            pretrained=False,
            num_classes=1,
            **config.backbone_options,
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (N,) of normalised images (N, 3, S, S); a positive logit means fake."""
        logits: torch.Tensor = self.vit(images)
        return logits.squeeze(1)


def build(config: ArchitectureConfig) -> nn.Module:
    """Return the network with fresh random weights, drawn from torch's global generator."""
    return VisionTransformerDetector(config)
