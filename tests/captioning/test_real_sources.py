"""A folder becomes records: stable order, texts from the CSV, every file that is left out named with its reason."""

import hashlib
import os
from pathlib import Path

import pytest

from captioning.real_record import RealRecord, SkippedFile
from captioning.real_sources import read_real_source
from manifests.errors import InputError
from manifests.real_source import RealSource
from shards.identifiers import real_image_id


def read(folder: Path, **options: object):
    return read_real_source(RealSource(name="r", path=Path(folder.name), **options), folder.parent)


def test_every_extension_in_path_order(photos: Path) -> None:
    contents = read(photos)
    assert [record.path for record in contents.records] == [
        "a.JPEG", "b.PNG", "c.webp", "d.bmp", "sub/e.tif", "sub/f.jpg",
    ]  # fmt: skip
    assert contents.skipped == ()
    for record in contents.records:
        data = (photos / record.path).read_bytes()
        assert record.sha256 == hashlib.sha256(data).hexdigest()
        assert record.image_id == real_image_id(data)


def test_csv_gives_texts_and_blank_is_none(photos: Path) -> None:
    (photos / "texts.csv").write_text(
        "\ufefffile,caption,photograph,class_label,content\r\n"
        'sub/f.jpg,"a dog, asleep",p1,dog,\r\n'
        "./b.PNG,  ,p1, cat ,paintings\r\n",
        encoding="utf-8",
    )
    records = {record.path: record for record in read(photos, captions="texts.csv", content="photos").records}

    def texts(record: RealRecord) -> tuple[str | None, ...]:
        return record.caption, record.photograph, record.class_label, record.content

    assert texts(records["sub/f.jpg"]) == ("a dog, asleep", "p1", "dog", "photos")
    assert texts(records["b.PNG"]) == (None, "p1", "cat", "paintings")
    assert texts(records["a.JPEG"]) == (None, None, None, "photos")
    assert records["b.PNG"].split_group == records["sub/f.jpg"].split_group == "p1"
    assert records["a.JPEG"].split_group == records["a.JPEG"].sha256


def test_what_is_left_out_is_named(photos: Path, make_image) -> None:
    (photos / "0-copy.jpg").write_bytes((photos / "sub" / "f.jpg").read_bytes())
    (photos / "broken.png").write_bytes(b"not a picture")
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "cut.png").write_bytes(make_image(7)[:1000])
    (photos / "phone.HEIC").write_bytes(b"x")
    (photos / "._a.jpg").write_bytes(b"a file system's own")
    contents = read(photos)
    reasons = {file.path: file.reason for file in contents.skipped}
    assert list(reasons) == ["broken.png", "cut.png", "empty.jpg", "phone.HEIC", "sub/f.jpg"]
    assert reasons["broken.png"] == "not an image"
    assert reasons["cut.png"].startswith("cannot be decoded: ")
    assert reasons["empty.jpg"] == "an empty file"
    assert reasons["phone.HEIC"].startswith(".heic is not supported; allowed: PNG, JPEG, ")
    assert reasons["sub/f.jpg"] == "the same bytes as 0-copy.jpg"
    assert len({record.sha256 for record in contents.records}) == len(contents.records) == 6


def test_format_is_by_content_not_by_name(photos: Path, make_image) -> None:
    (photos / "really.png").write_bytes(make_image(8, "JPEG"))
    (photos / "icon.png").write_bytes(make_image(9, "ICO"))
    contents = read(photos)
    assert "really.png" in [record.path for record in contents.records]
    assert [(file.path, file.reason.split(";")[0]) for file in contents.skipped] == [("icon.png", "its format is ICO")]


def test_limit_takes_the_first_in_name_order(photos: Path) -> None:
    assert [record.path for record in read(photos, limit=2).records] == ["a.JPEG", "b.PNG"]


def test_links_are_followed_but_not_in_circles(photos: Path, tmp_path: Path, make_image) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x.png").write_bytes(make_image(10))
    (photos / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(photos)
    assert [record.path for record in read(photos).records].count("linked/x.png") == 1
    assert len(read(photos).records) == 7


def test_wrong_folders(photos: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "x.jpg").write_bytes(b"x")
    name = "real source 'r': path = "
    cases = {
        tmp_path / "none": f"{name}{tmp_path}/none: no such folder",
        photos / "a.JPEG": f"{name}{photos}/a.JPEG: this is a file; a folder is needed",
        empty: f"{name}{empty}: no usable image in it",
        broken: f"{name}{broken}: no usable image in it\n  x.jpg: not an image",
    }
    for folder, message in cases.items():
        with pytest.raises(InputError) as caught:
            read(folder)
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty; its first line must be the header: file, caption, photograph, class_label, content"),
        ("a.JPEG,a dog\n", "1: unknown column 'a.JPEG'; allowed: file, caption, photograph, class_label, content"),
        ("caption\nx\n", "1: there is no column 'file'; allowed: file, caption, photograph, class_label, content"),
        ("file,caption,caption\n", "1: the column 'caption' is there twice"),
        ("file,caption\na.JPEG,x\nb.PNG,a, b\n", "3: 3 fields, but the header has 2; text with a comma needs quotes"),
        ('file,caption\na.JPEG,"x\ny"\nnone.jpg,z\n', "4: file = 'none.jpg' is not below {folder}"),
        ("file\nreadme.txt\n", "2: file = 'readme.txt' is not an image file"),
        ("file\na.JPEG\n\n./a.JPEG\n", "4: file = 'a.JPEG' is already on line 2"),
        ("file,caption\n,x\n", "2: file is blank"),
        ("file\n../a.png\n", "2: file = '../a.png' must be relative to the source's folder, and inside it"),
        ('file,caption\na.JPEG,"x" y\n', "2: not valid CSV: ',' expected after '\"'"),
        (b"file,caption\na.JPEG,caf\xe9\n", "2: not UTF-8 text (byte 0xe9)"),
    ],
)
def test_wrong_csv_names_file_and_line(photos: Path, text: str | bytes, message: str) -> None:
    table = photos / "t.csv"
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        read(photos, captions="t.csv")
    separator = ": " if message.startswith("the file") else ":"
    assert str(caught.value) == f"{table}{separator}{message.format(folder=photos)}"


def test_csv_that_is_not_there(photos: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(photos, captions="t.csv")
    assert str(caught.value) == f"{photos}/t.csv: there is no such file; it is the real source's key 'captions'"


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes only there")
def test_a_name_that_is_not_text_is_reported(photos: Path, make_image) -> None:
    Path(os.fsdecode(os.fsencode(photos) + b"/\xff.png")).write_bytes(make_image(11))
    assert read(photos).skipped == (SkippedFile("\\udcff.png", "its name is not printable UTF-8 text"),)
