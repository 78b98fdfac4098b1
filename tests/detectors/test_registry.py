"""Architectures by name; weights fit exactly or the keys that do not are named; published folders load as they are."""

import json

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from detectors.architecture import ArchitectureConfig
from detectors.preprocessing import InferenceTransform
from detectors.registry import architecture_names, get_architecture, published_architecture
from detectors.saved_detector import load_detector
from detectors.weights import load_backbone, load_strict
from manifests.errors import InputError


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder as OwensLab/commfor-model-224 has it, but with random weights, and the timm model that they are of."""
    folder = tmp_path_factory.mktemp("commfor-model-224")
    torch.manual_seed(0)
    backbone = timm.create_model("vit_small_patch16_224.augreg_in21k_ft_in1k", pretrained=False)
    backbone.head = nn.Linear(384, 1)
    save_file({f"vit.{name}": tensor for name, tensor in backbone.state_dict().items()}, folder / "model.safetensors")
    config = {"device": "cuda", "freeze_backbone": False, "input_size": 224, "model_size": "small", "patch_size": 16}
    (folder / "config.json").write_text(json.dumps(config))
    return folder, backbone.eval()


def test_the_registered_architectures():
    assert architecture_names() == ["commfor-vit-s-384", "commfor-vit-s-224", "tiny-vit-64"]
    for name, resize, crop in (("commfor-vit-s-384", 440, 384), ("commfor-vit-s-224", 256, 224)):
        config = get_architecture(name).config
        assert (config.preprocessing.resize_short_side, config.preprocessing.crop) == (resize, crop)
        assert config.preprocessing.mean == (0.485, 0.456, 0.406)
        assert config.preprocessing.std == (0.229, 0.224, 0.225)
        assert config.published.repo_id == f"OwensLab/commfor-model-{crop}"
        assert get_architecture(name) is published_architecture(f"OwensLab/commfor-model-{crop}")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match=r"'resnet' is unknown; known: commfor-vit-s-384, commfor-vit-s-224, tiny"):
        get_architecture("resnet")


def test_a_config_is_frozen_and_survives_json():
    config = get_architecture("commfor-vit-s-384").config
    assert ArchitectureConfig.model_validate_json(config.model_dump_json()) == config
    with pytest.raises(ValueError, match="frozen"):
        config.input_size = 1


@pytest.mark.parametrize("name", ["commfor-vit-s-384", "commfor-vit-s-224", "tiny-vit-64"])
def test_one_logit_per_image(name):
    architecture = get_architecture(name)
    side = architecture.config.input_size
    with torch.device("meta"):
        model = architecture.build(architecture.config)
    assert model(torch.empty(2, 3, side, side, device="meta")).shape == (2,)
    assert model.vit.head.weight.shape[0] == 1
    if architecture.config.published:
        names = list(model.state_dict())
        assert len(names) == architecture.config.published.tensors == 152
        assert all(key.startswith(architecture.config.published.key_prefix) for key in names)
        assert model.vit.head.weight.shape == (1, 384)


def test_a_published_folder_gives_the_scores_of_its_own_network(published):
    folder, backbone = published
    assert len(load_file(folder / "model.safetensors")) == 152
    detector = load_detector(folder, "cpu")
    assert detector.record is None
    assert detector.config.name == "commfor-vit-s-224"
    image = InferenceTransform(detector.config.preprocessing)(
        Image.effect_mandelbrot((300, 280), (-2, -1, 1, 1), 99).convert("RGB")
    )
    with torch.inference_mode():
        expected = backbone(image[None])[:, 0]
    assert torch.equal(detector.logits(image[None]), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("vit.blocks.3.attn.qkv.bias"), r"missing: vit\.blocks\.3\.attn\.qkv\.bias"),
        (lambda t: t.update({"vit.extra": torch.zeros(1)}), r"unexpected: vit\.extra"),
        (
            lambda t: t.update({"vit.head.weight": torch.zeros(1000, 384)}),
            r"vit\.head\.weight is \(1000, 384\), not \(1, 384\)",
        ),
        (lambda t: t.clear(), r"missing: vit\.cls_token, .* and 144 more"),
    ],
)
def test_weights_that_do_not_fit_are_named(published, tmp_path, change, message):
    folder, _ = published
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(InputError, match=message):
        load_detector(tmp_path, "cpu")


def test_a_refused_load_leaves_the_network_as_it_was():
    architecture = get_architecture("tiny-vit-64")
    model = architecture.build(architecture.config)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wrong = {name: torch.ones_like(tensor) for name, tensor in before.items()}
    wrong.pop("vit.head.bias")
    with pytest.raises(InputError, match=r"missing: vit\.head\.bias"):
        load_strict(model, wrong, "somewhere")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_folder_without_weights_or_detector_is_refused(tmp_path, published):
    with pytest.raises(InputError, match="no detector here"):
        load_detector(tmp_path, "cpu")
    (tmp_path / "config.json").write_bytes((published[0] / "config.json").read_bytes())
    with pytest.raises(InputError, match=r"model\.safetensors: no such file"):
        load_detector(tmp_path, "cpu")
    (tmp_path / "model.safetensors").write_bytes(b"garbage")
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        load_detector(tmp_path, "cpu")
    (tmp_path / "config.json").write_text('{"input_size": 300, "model_size": "small", "patch_size": 16}')
    with pytest.raises(InputError, match="no published weights for 300"):
        load_detector(tmp_path, "cpu")


def test_an_unavailable_device_is_refused(published):
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(InputError, match="'cuda' is not available"):
        load_detector(published[0], "cuda")


def test_a_pretrained_backbone_loads_all_but_its_head(tmp_path):
    architecture = get_architecture("tiny-vit-64")
    options = architecture.config.backbone_options
    pretrained = timm.create_model(architecture.config.backbone, pretrained=False, num_classes=1000, **options)
    save_file(pretrained.state_dict(), tmp_path / "model.safetensors")
    model = architecture.build(architecture.config)
    head = model.vit.head.weight.clone()
    load_backbone(model, tmp_path)
    assert torch.equal(model.vit.head.weight, head)
    for name, tensor in pretrained.state_dict().items():
        if not name.startswith("head."):
            assert torch.equal(model.state_dict()[f"vit.{name}"], tensor)
    tensors = pretrained.state_dict() | {"stray": torch.zeros(1)}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"unexpected: vit\.stray"):
        load_backbone(model, tmp_path)
