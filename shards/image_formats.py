"""The image formats a shard may hold: their file extension and how their bytes begin.

Names are Pillow's. Checking the first bytes catches the mix-up that matters most in forensics: a file whose recorded
format is not its real one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """`extension` without a dot; `begins(data)` says whether bytes look like this format."""

    name: str
    extension: str
    begins: Callable[[bytes], bool]


def _starts(*magics: bytes) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(magics)


def _riff_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def _iso_brand(*brands: bytes) -> Callable[[bytes], bool]:
    return lambda data: data[4:8] == b"ftyp" and any(brand in data[8:64] for brand in brands)


IMAGE_FORMATS: dict[str, ImageFormat] = {
    entry.name: entry
    for entry in (
        ImageFormat("PNG", "png", _starts(b"\x89PNG\r\n\x1a\n")),
        ImageFormat("JPEG", "jpg", _starts(b"\xff\xd8\xff")),
        ImageFormat("MPO", "mpo", _starts(b"\xff\xd8\xff")),  # a JPEG with further pictures behind it, from cameras
        ImageFormat("WEBP", "webp", _riff_webp),
        ImageFormat("GIF", "gif", _starts(b"GIF87a", b"GIF89a")),
        ImageFormat("BMP", "bmp", _starts(b"BM")),
        ImageFormat("TIFF", "tif", _starts(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
        ImageFormat("JPEG2000", "jp2", _starts(b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")),
        ImageFormat("AVIF", "avif", _iso_brand(b"avif", b"avis")),
        ImageFormat("PPM", "ppm", _starts(*(b"P%d" % digit for digit in range(1, 7)))),
    )
}
