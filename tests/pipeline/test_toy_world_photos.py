"""The demo's real images: what is on disk, what splits and captions may rely on."""

import csv
from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image

from manifests.errors import InputError
from pipeline.demo.photos import CAPTIONS_FILE, PHOTO_SIZE, PHOTOGRAPHS, build_photos
from pipeline.demo.toy_words import toy_words


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "photos"
    build_photos(folder)
    return folder


def test_the_csv_lists_exactly_the_images_on_disk(folder: Path) -> None:
    with (folder / CAPTIONS_FILE).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert sorted(row["file"] for row in rows) == sorted(path.name for path in folder.glob("*.png"))
    assert {path.suffix for path in folder.iterdir()} == {".png", ".csv"}
    assert len(rows) >= 48
    assert list(rows[0]) == ["file", "caption", "photograph"]
    assert {row["photograph"] for row in rows} == set(PHOTOGRAPHS)


def test_half_of_the_photographs_are_captioned_crop_by_crop(folder: Path) -> None:
    with (folder / CAPTIONS_FILE).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    captioned = {row["photograph"] for row in rows if row["caption"]}
    bare = {row["photograph"] for row in rows if not row["caption"]}
    assert len(captioned) == len(bare) == len(PHOTOGRAPHS) // 2
    assert not captioned & bare
    captions = [row["caption"] for row in rows if row["caption"]]
    assert len(set(captions)) == len(captions)
    assert {word for caption in captions for word in caption.split()} <= set(toy_words())


def test_crops_are_lossless_full_of_detail_and_all_different(folder: Path) -> None:
    hashes: dict[str, imagehash.ImageHash] = {}
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "RGB", (PHOTO_SIZE, PHOTO_SIZE))
            assert np.asarray(image, dtype=float).std() > 10
            hashes[path.name] = imagehash.phash(image)
    names = list(hashes)
    close = [
        (first, second)
        for place, first in enumerate(names)
        for second in names[place + 1 :]
        if hashes[first] - hashes[second] <= 4
    ]
    assert close == []


def test_a_crop_shows_its_place_in_the_photograph(folder: Path) -> None:
    """Window 5 of the astronaut is the second in the second row: compared with a reduction of its own."""
    import skimage.data

    window = skimage.data.astronaut()[128:256, 128:256].astype(float)
    halved = window.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    with Image.open(folder / "astronaut-05.png") as image:
        assert np.abs(np.asarray(image, dtype=float) - halved).mean() < 4


def test_the_same_bytes_each_time(folder: Path, tmp_path: Path) -> None:
    build_photos(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }


def test_an_unwritable_folder_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file"):
        build_photos(tmp_path / "file" / "photos")
