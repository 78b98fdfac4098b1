"""Photographs of real encodings in a folder, and a tiny captioner."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.demo.toy_captioner import build_captioner


def encoded(seed: int, form: str = "PNG", size: tuple[int, int] = (48, 40), **options: object) -> bytes:
    """An image file: noise of its own, so that no two seeds are alike."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture
def make_image():
    """The function `encoded`."""
    return encoded


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with one image of each common encoding, one of them below a subfolder, and a text file."""
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn a quarter
    exif[0x010F] = "Camera Maker"
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.JPEG").write_bytes(encoded(1, "JPEG", quality=83, exif=exif))
    (folder / "b.PNG").write_bytes(encoded(2))
    (folder / "c.webp").write_bytes(encoded(3, "WEBP"))
    (folder / "d.bmp").write_bytes(encoded(4, "BMP"))
    (folder / "sub" / "e.tif").write_bytes(encoded(5, "TIFF"))
    (folder / "sub" / "f.jpg").write_bytes(encoded(6, "JPEG"))
    (folder / "readme.txt").write_text("no image")
    return folder


@pytest.fixture(scope="session")
def blip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BLIP with random weights, as `from_pretrained` reads it."""
    folder = tmp_path_factory.mktemp("blip")
    build_captioner(folder, seed=0)
    return folder
