"""PNG bytes: lossless, without metadata, always the same."""

import hashlib
import io

import imagehash
import numpy as np
import pytest
from PIL import Image

from samplers.images import encode


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_pixels_survive_and_columns_describe_them(mode: str) -> None:
    shape = (40, 24) if mode == "L" else (40, 24, len(mode))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    encoded = encode(image)
    back = Image.open(io.BytesIO(encoded.data))
    assert (back.format, back.mode, back.size) == ("PNG", mode, (24, 40))
    assert (encoded.format, encoded.mode, encoded.width, encoded.height) == ("PNG", mode, 24, 40)
    assert np.array_equal(np.asarray(back), np.asarray(image))
    assert encoded.sha256 == hashlib.sha256(encoded.data).hexdigest()
    assert encoded.phash == str(imagehash.phash(back)) and len(encoded.phash) == 16


def test_equal_pixels_give_equal_bytes_and_only_image_chunks() -> None:
    array = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encode(Image.fromarray(array)).data
    assert data == encode(Image.fromarray(array.copy())).data
    chunks, position = [], 8
    while position < len(data):
        length = int.from_bytes(data[position : position + 4])
        chunks.append(data[position + 4 : position + 8])
        position += length + 12
    assert set(chunks) == {b"IHDR", b"IDAT", b"IEND"}
