"""What Pillow says of an encoded image: the facts that a dataset row keeps, or why it cannot be one."""

import io
import struct
import zlib
from dataclasses import dataclass

from PIL import Image

from shards.image_formats import IMAGE_FORMATS

_DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)
"""What Pillow's decoders raise for bytes that are not a whole image."""


class UnusableImage(Exception):  # noqa: N818 - a finding about a file, which the reader lists
    """The bytes are not an image that a dataset can hold; the message says why."""


@dataclass(frozen=True)
class ImageFacts:
    """Pillow's names for format and mode; width and height in pixels as stored, before any EXIF rotation."""

    format: str
    mode: str
    width: int
    height: int
    phash: str | None = None


def read_image_facts(data: bytes, *, with_phash: bool = False) -> ImageFacts:
    """Decode `data` fully and return its facts; `phash` (16 hex digits, of the first frame) only when asked for.

    Raises:
        UnusableImage: the bytes cannot be decoded to the end, or their format is none that shards hold.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            name = image.format
            image.load()
            facts = ImageFacts(str(name), image.mode, image.width, image.height)
            phash = _phash(image) if with_phash else None
    except Image.DecompressionBombError as error:
        raise UnusableImage(str(error)) from error
    except Image.UnidentifiedImageError as error:
        raise UnusableImage("not an image" if data else "an empty file") from error
    except _DECODING_ERRORS as error:
        raise UnusableImage(f"cannot be decoded: {error}") from error
    if facts.format not in IMAGE_FORMATS:
        raise UnusableImage(f"its format is {facts.format}; allowed: {', '.join(IMAGE_FORMATS)}")
    if not IMAGE_FORMATS[facts.format].begins(data[:64]):
        raise UnusableImage(f"its bytes do not begin as {facts.format}")
    return ImageFacts(facts.format, facts.mode, facts.width, facts.height, phash)


def _phash(image: Image.Image) -> str:
    import imagehash  # brings scipy, which planning does not need

    return str(imagehash.phash(image))
