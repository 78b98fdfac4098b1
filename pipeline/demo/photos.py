"""The demo's real images: crops of the photographs that scikit-image carries, each 64 × 64 pixels.

Every photograph is cut on a grid of square windows that do not overlap, and each chosen window is reduced to the
size at which the toy generators work, so that size tells nothing about the label. Half of the photographs come with
a caption for each crop; the others are left to the captioner. All are in the public domain or CC0 (see `PHOTOGRAPHS`).
`motorcycle_right` is left out on purpose: it is the other eye's view of `motorcycle_left`, a near duplicate.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from manifests.errors import InputError, system_words

PHOTO_SIZE = 64
"""Side of a crop in pixels; equals the native size of every toy generator."""

CAPTIONS_FILE = "captions.csv"


@dataclass(frozen=True)
class Photograph:
    """A bundled photograph and the windows taken from it.

    `crops` maps the number of a window (row by row on a grid of `window` pixels) to its caption, if it has one.
    """

    file: str
    window: int
    credit: str
    crops: Mapping[int, str | None]


@dataclass(frozen=True)
class Photo:
    """One crop on disk; `file` is relative to the folder, `photograph` the source that splits go by."""

    file: str
    caption: str | None
    photograph: str


PHOTOGRAPHS: dict[str, Photograph] = {
    "astronaut": Photograph(
        "astronaut.png",
        128,
        "NASA, public domain",
        {
            0: "white stars on the blue part of a flag",
            1: "the face of a woman with short brown hair",
            2: "the eye and brown hair of a woman near a gray wall",
            3: "a model of a space shuttle with a brown tank",
            4: "a red and white flag behind an orange sleeve",
            5: "a smiling woman above the open collar of a space suit",
            8: "the orange shoulder of a space suit beside a flag",
            9: "a round blue patch on an orange space suit",
            10: "a name tag on an orange suit above a white helmet",
            13: "a metal ring on the front of an orange space suit",
        },
    ),
    "coffee": Photograph(
        "coffee.png",
        132,
        "Rachel Michetti, CC0-1.0",
        {
            1: "the edge of a white cup on a wooden table",
            2: "a white cup of coffee from above",
            4: "the edge of a red plate on a wooden table",
            5: "a red cup with a handle on a red plate",
            6: "warm coffee in a white and red cup",
            7: "a red plate on a brown wooden table",
            8: "the rough surface of an old wooden table",
            9: "the handle of a cup above a red plate",
            10: "a shining silver spoon on a red plate",
            11: "the round edge of a red plate on dark wood",
        },
    ),
    "motorcycle": Photograph(
        "motorcycle_left.png",
        144,
        "Middlebury Stereo 2014, Daniel Scharstein et al., public domain",
        {
            2: "tools and a yellow bottle on a shelf in a workshop",
            3: "a brown paper box on a metal shelf in a garage",
            4: "a wooden wall behind a gray metal shelf",
            5: "the red rear light of a motorcycle near a wooden chair",
            6: "the long black seat of a motorcycle",
            7: "the red tank of a motorcycle in a garage",
            8: "the front light and handle of a red motorcycle",
            11: "the rear wheel of a motorcycle on a stone floor",
            12: "the silver engine of a motorcycle",
            14: "the front wheel of a motorcycle on a gray floor",
        },
    ),
    "rocket": Photograph(
        "rocket.jpg",
        128,
        "SpaceX, CC0-1.0",
        {
            0: "a metal tower under a dark blue sky",
            4: "the top of a metal tower at night",
            5: "a tall steel tower in front of a blue evening sky",
            6: "a thin white mast on a dark tower",
            7: "the top of a white rocket in the evening",
            8: "a white mast on a metal tower in the evening",
            9: "a dark steel tower and a deep blue sky",
            10: "a bright lamp behind a metal tower",
            11: "a bright light on the ground near a tower at night",
            12: "the lower part of a white rocket between lights",
        },
    ),
    "chelsea": Photograph(
        "chelsea.png", 100, "Stéfan van der Walt, CC0-1.0", dict.fromkeys((0, 1, 2, 3, 5, 6, 7, 8, 9, 10))
    ),
    "hubble": Photograph(
        "hubble_deep_field.jpg",
        200,
        "NASA and ESA, public domain",
        dict.fromkeys((1, 2, 3, 5, 6, 12, 13, 14, 17, 18)),
    ),
    "ihc": Photograph(
        "ihc.png",
        128,
        "Center for Microscopy and Molecular Imaging, no known copyright restriction",
        dict.fromkeys((0, 1, 2, 3, 4, 6, 8, 9, 10, 14)),
    ),
    "retina": Photograph(
        "retina.jpg",
        280,
        "Mikael Häggström, CC0-1.0",
        dict.fromkeys((1, 3, 5, 6, 8, 9, 10, 11, 15, 22)),
    ),
}
"""The photographs by name. The first four are captioned by hand, the last four are for the captioner."""


def build_photos(folder: Path) -> tuple[Photo, ...]:
    """Write every crop as a lossless PNG, and `captions.csv` with the columns file, caption, photograph.

    Returns:
        The crops in the order of the CSV; an empty caption in the CSV is None here.

    Raises:
        InputError: scikit-image lacks one of the photographs, or `folder` cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made: {system_words(error)}") from error
    photos = []
    for name, photograph in PHOTOGRAPHS.items():
        photos += _write_crops(folder, name, photograph)
    with (folder / CAPTIONS_FILE).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["file", "caption", "photograph"])
        writer.writerows([photo.file, photo.caption or "", photo.photograph] for photo in photos)
    return tuple(photos)


def _write_crops(folder: Path, name: str, photograph: Photograph) -> list[Photo]:
    import skimage
    from PIL import Image

    path = Path(skimage.__file__).parent / "data" / photograph.file
    if not path.is_file():
        raise InputError(f"{path}: scikit-image's bundled photograph is missing; install scikit-image again")
    with Image.open(path) as image:
        pixels = image.convert("RGB")
    side = photograph.window
    photos = []
    for number, caption in photograph.crops.items():
        row, column = divmod(number, pixels.width // side)
        box = (column * side, row * side, (column + 1) * side, (row + 1) * side)
        crop = pixels.resize((PHOTO_SIZE, PHOTO_SIZE), Image.Resampling.LANCZOS, box=box)
        file = f"{name}-{number:02d}.png"
        crop.save(folder / file, format="PNG", optimize=False, compress_level=6)
        photos.append(Photo(file=file, caption=caption, photograph=name))
    return photos
