"""The test transform is the published one, to the last bit, on any image."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from detectors.architecture import Preprocessing
from detectors.format_equalisation import NativeAndEqualised, describe_equalisation, equalise
from detectors.preprocessing import InferenceTransform, UnreadableImage, decode_rgb, resize_short_side

SIZES = [(440, 384), (256, 224), (73, 64)]


def noise(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(("resize", "crop"), SIZES)
@pytest.mark.parametrize("size", [(512, 512), (640, 427), (33, 90), (1, 5), (441, 440)])
def test_equals_the_published_torchvision_composition(resize, crop, size):
    published = transforms.Compose(
        [
            transforms.Resize(resize),
            transforms.CenterCrop(crop),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )
    image = noise(*size)
    tensor = InferenceTransform(Preprocessing(resize_short_side=resize, crop=crop))(image)
    assert tensor.shape == (3, crop, crop)
    assert tensor.dtype == torch.float32
    assert torch.equal(tensor, published(image))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 9))
def test_equals_arithmetic_in_pillow_and_numpy(width, height, seed):
    image = noise(width, height, seed)
    short = min(width, height)
    size = (73, int(73 * height / short)) if width <= height else (int(73 * width / short), 73)
    resized = image if short == 73 else image.resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - 64) / 2), round((size[1] - 64) / 2)
    pixels = np.asarray(resized)[top : top + 64, left : left + 64].astype(np.float32) / 255
    expected = (pixels - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    tensor = InferenceTransform(Preprocessing(resize_short_side=73, crop=64))(image)
    np.testing.assert_allclose(tensor.numpy(), expected.transpose(2, 0, 1), rtol=0, atol=2e-6)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "YCbCr"])
def test_any_mode_becomes_rgb(mode, to_bytes):
    buffer = io.BytesIO()
    noise(20, 10).convert(mode).save(buffer, "TIFF")
    decoded = decode_rgb(buffer.getvalue())
    assert (decoded.mode, decoded.size) == ("RGB", (20, 10))


def test_sixteen_bit_grey_is_scaled_not_clipped():
    grey = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    assert np.array_equal(np.asarray(decode_rgb(buffer.getvalue()))[..., 0], (grey // 257).astype(np.uint8))


def test_truncated_and_foreign_bytes_are_refused(to_bytes):
    data = to_bytes(np.asarray(noise(64, 64)))
    for bad in (data[: len(data) // 2], b"", b"not an image"):
        with pytest.raises(UnreadableImage, match="cannot decode"):
            decode_rgb(bad)


def test_elongated_image_is_refused_before_memory_is_spent():
    with pytest.raises(UnreadableImage, match="elongated"):
        resize_short_side(Image.new("RGB", (60_000, 1)), 440)


def test_crop_larger_than_the_resize_is_refused():
    with pytest.raises(ValueError, match="crop 64 is larger"):
        Preprocessing(resize_short_side=32, crop=64)


def test_equalised_images_share_size_and_quantisation_whatever_they_were(to_bytes):
    for image in (noise(300, 200), noise(73, 73), noise(20, 90)):
        assert equalise(image, 73).size == (73, 73)
    # pixels that already went through the same square and JPEG come back nearly the same: it is one fixed pipeline
    smooth = Image.fromarray(np.tile(np.arange(73, dtype=np.uint8)[:, None, None], (1, 73, 3)))
    once = np.asarray(equalise(smooth, 73)).astype(int)
    assert np.abs(once - np.asarray(smooth)).max() <= 4


def test_equalised_view_is_the_detectors_transform_of_the_equalised_image():
    config = Preprocessing(resize_short_side=73, crop=64)
    image = noise(120, 90)
    native, equalised = NativeAndEqualised(config)(image)
    assert torch.equal(native, InferenceTransform(config)(image))
    assert torch.equal(equalised, InferenceTransform(config)(equalise(image, 73)))
    assert not torch.equal(native, equalised)
    assert "73 × 73" in describe_equalisation(config)
    assert "JPEG quality 90" in describe_equalisation(config)
