"""The training augmentation: the published operations within the published bounds, and reproducible."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from detectors import augmentation
from detectors.augmentation import OPERATIONS, TrainingTransform, draw_operations
from detectors.registry import get_architecture

CROP = 64
TRANSFORM = TrainingTransform(get_architecture("tiny-vit-64").config)


def picture(width=100, height=80, seed=0):
    """Smooth noise, never black: a black pixel is one that an operation uncovered."""
    small = np.random.default_rng(seed).integers(60, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR)


class Scripted:
    """A generator whose `random` and `uniform` give chosen ends of their ranges."""

    def __init__(self, fraction, coin=0.0):
        self.fraction, self.coin = fraction, coin

    def random(self):
        return self.coin

    def uniform(self, low, high):
        return low + self.fraction * (high - low)

    def integers(self, low, high=None):
        low, high = (0, low) if high is None else (low, high)
        return low + int(self.fraction * (high - 1 - low))


def test_there_are_the_eleven_published_operations():
    assert list(OPERATIONS) == [
        "jpeg",
        "resize",
        "random_crop",
        "horizontal_flip",
        "vertical_flip",
        "random_resized_crop",
        "rotation",
        "translation",
        "shear",
        "padding",
        "cutout",
    ]


def test_each_operation_is_drawn_zero_one_or_two_times_evenly_and_in_any_order():
    rng = np.random.default_rng(0)
    draws = [draw_operations(rng) for _ in range(3000)]
    for name in OPERATIONS:
        counts = np.bincount([draw.count(name) for draw in draws], minlength=3)
        assert len(counts) == 3
        assert np.all(np.abs(counts / 3000 - 1 / 3) < 0.04)
    first = np.array([list(OPERATIONS).index(draw[0]) for draw in draws if draw])
    assert np.all(np.abs(np.bincount(first, minlength=11) / len(first) - 1 / 11) < 0.025)


def test_the_same_generator_gives_the_same_tensor_and_another_a_different_one():
    image = picture()
    tensors = [TRANSFORM(image, np.random.default_rng([7, position])) for position in range(20)]
    again = [TRANSFORM(image, np.random.default_rng([7, position])) for position in range(20)]
    assert all(torch.equal(a, b) for a, b in zip(tensors, again, strict=True))
    assert len({tensor.numpy().tobytes() for tensor in tensors}) == 20


def test_global_random_states_are_neither_used_nor_touched():
    np_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()
    a = TRANSFORM(picture(), np.random.default_rng(3))
    np.random.seed(5)
    torch.manual_seed(5)
    assert torch.equal(a, TRANSFORM(picture(), np.random.default_rng(3)))
    np.random.seed(0)
    assert len(np_state) and len(torch_state)


@pytest.mark.parametrize("size", [(8, 8), (64, 64), (30, 200), (200, 65)])
def test_any_size_of_image_gives_the_input_size(size):
    for seed in range(40):
        tensor = TRANSFORM(picture(*size), np.random.default_rng(seed))
        assert tensor.shape == (3, CROP, CROP)
        assert torch.isfinite(tensor).all()


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_sides_never_fall_below_the_crop(name):
    for seed in range(40):
        for size in ((CROP, CROP), (CROP, 90), (130, 80)):
            out = OPERATIONS[name](picture(*size), CROP, np.random.default_rng(seed))
            assert min(out.size) >= CROP
            assert out.mode == "RGB"


def test_jpeg_quality_is_75_to_100_with_both_encoders():
    image = picture()
    for fraction, quality in ((0.0, 75), (1.0, 100)):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        with_pillow = augmentation.jpeg(image, CROP, Scripted(fraction, coin=0.0))
        assert np.array_equal(np.asarray(with_pillow), np.asarray(Image.open(buffer).convert("RGB")))
        with_opencv = np.asarray(augmentation.jpeg(image, CROP, Scripted(fraction, coin=0.9))).astype(int)
        assert np.abs(with_opencv - np.asarray(image)).mean() < 6  # channels in the right order


def test_the_two_encoders_share_the_draws_evenly(monkeypatch):
    qualities = []
    encode = augmentation.cv2.imencode

    def counted(extension, pixels, options):
        qualities.append(options[1])
        return encode(extension, pixels, options)

    monkeypatch.setattr(augmentation.cv2, "imencode", counted)
    for seed in range(400):
        augmentation.jpeg(picture(16, 16), CROP, np.random.default_rng(seed))
    assert len(qualities) / 400 == pytest.approx(0.5, abs=0.08)
    assert (min(qualities), max(qualities)) == (75, 100)


def test_resize_bounds_for_the_published_sizes():
    for crop, top in ((384, 472), (224, 275)):
        image = picture(500, 460)
        assert min(augmentation.resize(image, crop, Scripted(0.0)).size) == crop + 1
        assert min(augmentation.resize(image, crop, Scripted(1.0)).size) == top


def test_geometric_operations_stay_within_their_bounds():
    white = Image.new("RGB", (100, 100), (255, 255, 255))

    def uncovered(image):
        return np.asarray(image).max(axis=2) == 0

    shifted = uncovered(augmentation.translation(white, CROP, Scripted(1.0)))
    assert shifted[:, :10].all()
    assert shifted[:10].all()
    assert not shifted[10:, 10:].any()
    # about the centre: the middle of the picture stays white, the corners do not
    turned = uncovered(augmentation.rotation(white, CROP, Scripted(1.0)))
    assert turned[0, 0]
    assert not turned[50, 14:86].any()
    angle = np.radians(15)  # a unit square and itself turned by t share an area of 2 / (1 + sin t + cos t)
    assert turned.mean() == pytest.approx(1 - 2 / (1 + np.sin(angle) + np.cos(angle)), abs=0.005)
    assert not uncovered(augmentation.rotation(white, CROP, Scripted(0.5))).any()
    assert not uncovered(augmentation.shear(white, CROP, Scripted(0.5))).any()
    assert uncovered(augmentation.shear(white, CROP, Scripted(1.0)))[[0, -1]].any()


def test_random_resized_crop_keeps_at_least_nine_tenths_of_a_square():
    for seed in range(300):
        rng = np.random.default_rng(seed)
        top, left, height, width = augmentation._rectangle(picture(100, 100), rng)
        assert 0 <= top <= 100 - height
        assert 0 <= left <= 100 - width
        assert 0.88 <= height * width / 10_000 <= 1
        assert 3 / 4 - 0.02 <= width / height <= 4 / 3 + 0.02
    top, left, height, width = augmentation._rectangle(picture(400, 100), np.random.default_rng(0))
    assert (height, width) == (100, 133)  # no draw fits: centred, at the aspect bound
    assert (top, left) == (0, 133)


def test_padding_is_at_most_a_twentieth_of_a_side_and_the_size_stays():
    black = Image.new("RGB", (200, 100), (0, 0, 0))
    padded = np.asarray(augmentation.padding(black, CROP, Scripted(1.0)))
    assert padded.shape == (100, 200, 3)
    grey = padded[..., 0] > 127
    assert grey[:, :8].all()
    assert not grey[8:-8, 12:-12].any()


def test_cutout_covers_two_to_six_percent_half_of_the_time():
    white = Image.new("RGB", (100, 100), (255, 254, 253))
    shares = []
    for seed in range(400):
        out = np.asarray(augmentation.cutout(white, CROP, np.random.default_rng(seed)))
        changed = (out != np.asarray(white)).any(axis=2)
        shares.append(changed.mean())
        if changed.any():
            assert len({tuple(pixel) for pixel in out[changed]}) == 1
            assert len(set(out[changed][0])) == 1  # grey
    cut = [share for share in shares if share]
    assert len(cut) / 400 == pytest.approx(0.5, abs=0.08)
    assert min(cut) > 0.017
    assert max(cut) < 0.064


def test_flips_happen_half_of_the_time():
    image = picture()
    for name, flipped in (
        ("horizontal_flip", image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        ("vertical_flip", image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)),
    ):
        outs = [OPERATIONS[name](image, CROP, np.random.default_rng(seed)) for seed in range(200)]
        same = sum(np.array_equal(out, image) for out in outs)
        turned = sum(np.array_equal(out, flipped) for out in outs)
        assert same + turned == 200
        assert 70 <= turned <= 130


def test_the_recipe_none_is_resize_and_random_crop_only():
    config = get_architecture("tiny-vit-64").config.model_copy(update={"augmentation": "none"})
    image = picture(73, 73)
    pixels = np.asarray(image).transpose(2, 0, 1) / 255
    tensor = TrainingTransform(config)(image, np.random.default_rng(0)).numpy()
    restored = (
        tensor * np.array(config.preprocessing.std)[:, None, None] + np.array(config.preprocessing.mean)[:, None, None]
    )
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (64, 64), axis=(1, 2))
    errors = np.abs(windows.transpose(1, 2, 0, 3, 4) - restored).max(axis=(2, 3, 4))
    assert (errors < 1e-5).sum() == 1
