"""BLIP's captions are frozen by batch, and a broken model folder is a failure with a name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import BlipForConditionalGeneration, BlipProcessor

from captioning.blip import BlipCaptioner
from shards.statuses import Reason, UnitFailure


@pytest.fixture(scope="module")
def captioner(blip_folder: Path) -> BlipCaptioner:
    torch.set_num_threads(1)
    return BlipCaptioner.load(blip_folder, "cpu", "float32", batch_size=4, max_new_tokens=12)


@pytest.fixture
def images(make_image, tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{n}.png" for n in range(6)]
    for n, path in enumerate(paths):
        path.write_bytes(make_image(n, size=(70, 50)))
    return paths


def test_captions_equal_a_plain_transformers_loop(
    captioner: BlipCaptioner, blip_folder: Path, images: list[Path]
) -> None:
    """Two batches of four, the second filled up with its last image."""
    processor = BlipProcessor.from_pretrained(blip_folder)
    model = BlipForConditionalGeneration.from_pretrained(blip_folder).eval()
    opened = [Image.open(path).convert("RGB") for path in images]
    expected: list[str] = []
    for batch in (opened[:4], [opened[4], opened[5], opened[5], opened[5]]):
        pixels = processor(images=batch, return_tensors="pt")["pixel_values"]
        tokens = model.generate(pixel_values=pixels, do_sample=False, num_beams=1, max_new_tokens=12)
        expected += processor.batch_decode(tokens, skip_special_tokens=True)
    found = captioner.caption(images)
    assert found == expected[:6]
    assert captioner.caption(opened) == found
    assert len(set(found)) > 1
    assert all(found)


def test_every_batch_has_the_frozen_size(blip_folder: Path, images: list[Path]) -> None:
    captioner = BlipCaptioner.load(blip_folder, "cpu", "float32", batch_size=4)
    batches: list[torch.Tensor] = []
    vision = captioner._model.vision_model
    vision.register_forward_pre_hook(
        lambda module, args, kwargs: batches.append(kwargs["pixel_values"]), with_kwargs=True
    )
    assert len(captioner.caption(images)) == 6
    assert [len(batch) for batch in batches] == [4, 4]
    assert torch.equal(batches[1][1], batches[1][2])
    assert torch.equal(batches[1][1], batches[1][3])
    assert not torch.equal(batches[1][0], batches[1][1])


def test_no_images_no_captions(captioner: BlipCaptioner) -> None:
    assert captioner.caption([]) == []


def test_photographs_are_captioned_upright(captioner: BlipCaptioner, images: list[Path], tmp_path: Path) -> None:
    upright = Image.open(images[0]).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    assert captioner.caption([tmp_path / "turned.png"]) == captioner.caption([upright])


def test_settings_are_recorded_and_matter(captioner: BlipCaptioner, blip_folder: Path, images: list[Path]) -> None:
    assert captioner.record == {
        "batch_size": 4,
        "max_new_tokens": 12,
        "num_beams": 1,
        "do_sample": False,
        "dtype": "float32",
    }
    short = BlipCaptioner.load(blip_folder, "cpu", "bfloat16", max_new_tokens=2, num_beams=3)
    assert short.record["dtype"] == "bfloat16"
    assert all(len(caption.split()) <= 2 for caption in short.caption(images))


def _cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def _without_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("vision_model.post_layernorm.weight")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def _misshapen(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["vision_model.post_layernorm.weight"] = torch.zeros(3)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def _other_model(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "vit"}))


@pytest.mark.parametrize(
    ("breakage", "reason", "words"),
    [
        (shutil.rmtree, Reason.missing_file, "there is no such folder"),
        (lambda folder: (folder / "config.json").unlink(), Reason.missing_file, "config.json is missing"),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            Reason.missing_file,
            "model.safetensors or model.safetensors.index.json is missing",
        ),
        (lambda folder: (folder / "tokenizer.json").unlink(), Reason.missing_file, "tokenizer.json or vocab.txt"),
        (lambda folder: (folder / "config.json").write_text("{"), Reason.bad_config, "config.json: not JSON"),
        (lambda folder: (folder / "tokenizer.json").write_text("[]"), Reason.bad_config, "not a JSON object"),
        (_other_model, Reason.bad_config, "model_type is 'vit'; this captioner is for 'blip'"),
        (_cut, Reason.corrupt_weights, "blip"),
        (
            _without_a_tensor,
            Reason.corrupt_weights,
            "1 tensors missing or misshapen, first vision_model.post_layernorm",
        ),
        (_misshapen, Reason.corrupt_weights, "1 tensors missing or misshapen, first vision_model.post_layernorm"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), Reason.invalid_pipeline, "blip"),
    ],
)
def test_broken_model_folder(
    blip_folder: Path, tmp_path: Path, breakage: Callable[[Path], object], reason: Reason, words: str
) -> None:
    folder = tmp_path / "blip"
    shutil.copytree(blip_folder, folder)
    breakage(folder)
    with pytest.raises(UnitFailure) as caught:
        BlipCaptioner.load(folder, "cpu", "float32")
    assert caught.value.reason is reason
    assert words in caught.value.detail


def test_unreadable_image_is_named(captioner: BlipCaptioner, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"x")
    for path in (tmp_path / "x.png", tmp_path / "none.png"):
        with pytest.raises(UnitFailure) as caught:
            captioner.caption([path])
        assert caught.value.reason is Reason.missing_file
        assert caught.value.detail.startswith(f"{path}: cannot be read as an image: ")
