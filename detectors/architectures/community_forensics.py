"""Community Forensics' ViT-S detectors (Park and Owens, CVPR 2025, section 4).

The paper names a CLIP backbone pretrained on LAION-2B; the released code and weights use timm's ViT-S pretrained on
ImageNet-21k and fine-tuned on ImageNet-1k, and so does this file. Resize and crop are the released code's:
440 → 384 and 256 → 224.
"""

from detectors.architecture import Architecture, ArchitectureConfig, Preprocessing, PublishedWeights
from detectors.architectures.vision_transformer import build

_PAPER = (
    "Park and Owens, Community Forensics: Using Thousands of Generators to Train Fake Image Detectors, CVPR 2025, "
    "arXiv:2411.04125"
)


def _vit_small(input_size: int, resize_short_side: int) -> Architecture:
    repo_id = f"OwensLab/commfor-model-{input_size}"
    config = ArchitectureConfig(
        name=f"commfor-vit-s-{input_size}",
        description=f"Community Forensics ViT-S/16, {input_size} × {input_size} input",
        input_size=input_size,
        backbone=f"vit_small_patch16_{input_size}.augreg_in21k_ft_in1k",
        preprocessing=Preprocessing(resize_short_side=resize_short_side, crop=input_size),
        augmentation="community-forensics",
        published=PublishedWeights(
            repo_id=repo_id,
            key_prefix="vit.",
            tensors=152,
            license=f"as stated on the model card of {repo_id}",
        ),
        backbone_weights=f"timm/vit_small_patch16_{input_size}.augreg_in21k_ft_in1k",
        license="Apache-2.0 (timm code and augreg weights)",
        paper=_PAPER,
    )
    return Architecture(config, build)


VIT_SMALL_224 = _vit_small(224, 256)
VIT_SMALL_384 = _vit_small(384, 440)
