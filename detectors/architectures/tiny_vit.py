"""The Community Forensics detector shrunk for machines without a GPU: the same code path, 64 × 64 input."""

from detectors.architecture import Architecture, ArchitectureConfig, Preprocessing
from detectors.architectures.vision_transformer import build

TINY_VIT_64 = Architecture(
    ArchitectureConfig(
        name="tiny-vit-64",
        description="ViT of width 96, depth 4, patch 8 on 64 × 64 input, for machines without a GPU; untrained",
        input_size=64,
        backbone="vit_tiny_patch16_224",
        backbone_options={"img_size": 64, "patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3},
        preprocessing=Preprocessing(resize_short_side=73, crop=64),
        augmentation="community-forensics",
        license="Apache-2.0 (timm code)",
        paper="architecture after Park and Owens, Community Forensics, CVPR 2025, arXiv:2411.04125; not in the paper",
    ),
    build,
)
