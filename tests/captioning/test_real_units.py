"""Real images go into units and splits the same way every time, and into shards byte for byte."""

import io
import json
import tarfile
from pathlib import Path

import imagehash
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from captioning.make_prompt import prompt_id_of
from captioning.real_record import RealRecord
from captioning.real_sources import read_real_source
from captioning.real_units import plan_real_units, real_generator_name, split_of, store_real_unit
from manifests.real_source import RealSource
from manifests.unit import RealUnitSpec
from shards.dataset import Dataset
from shards.identifiers import real_image_id
from shards.statuses import Reason, UnitFailure
from shards.writer import UnitWriter

SOURCE = RealSource(name="r", path=Path("photos"), license="CC-BY-4.0", content="photos")


def records(names: list[str], photograph: dict[str, str] | None = None) -> list[RealRecord]:
    return [
        RealRecord(path=name, sha256=f"{name}-sha", image_id=f"{name}-id", photograph=(photograph or {}).get(name))
        for name in names
    ]


def plan(found: list[RealRecord], unit_images: int = 3, done: list[RealUnitSpec] | None = None) -> list[RealUnitSpec]:
    done = done or []
    return plan_real_units(
        found,
        SOURCE,
        Path("photos"),
        unit_images,
        test_fraction=0.3,
        salt="s",
        committed=[(unit.first, len(unit.images)) for unit in done],
        committed_sha256={image.sha256 for unit in done for image in unit.images},
    )


def test_grid_by_first_index() -> None:
    units = plan(records(list("abcdefgh")))
    assert [(unit.first, "".join(image.path for image in unit.images)) for unit in units] == [
        (0, "abc"),
        (3, "def"),
        (6, "gh"),
    ]
    assert [unit.unit for unit in units] == [unit.unit for unit in plan(records(list("abcdefgh")))]


@given(st.integers(1, 30), st.integers(1, 7), st.data())
def test_a_killed_run_goes_on_with_the_same_units(count: int, unit_images: int, data: st.DataObject) -> None:
    """Whichever units were committed when the run died, in the first run or after growth, the plan is the same."""
    names = sorted(data.draw(st.sets(st.text("abcdef", min_size=1), min_size=count, max_size=count)))
    early = sorted(data.draw(st.sets(st.sampled_from(names), min_size=1)))
    first_run = plan(records(early), unit_images)
    done = [unit for unit in first_run if data.draw(st.booleans())]
    assert plan(records(early), unit_images, done) == [unit for unit in first_run if unit not in done]

    grown = plan(records(names), unit_images, first_run)
    done = [unit for unit in grown if data.draw(st.booleans())]
    assert plan(records(names), unit_images, first_run + done) == [unit for unit in grown if unit not in done]
    everything = [image.path for unit in first_run + grown for image in unit.images]
    assert sorted(everything) == names
    taken = [index for unit in first_run + grown for index in range(unit.first, unit.first + len(unit.images))]
    assert sorted(taken) == list(range(len(names)))


def test_a_gap_smaller_than_a_unit_is_filled_and_not_overrun() -> None:
    done = plan_real_units(records(list("ab")), SOURCE, Path("photos"), 2, 0.3, "s")
    done += [RealUnitSpec(source=SOURCE, folder=Path("photos"), first=3, images=done[0].images[:1])]
    units = plan(records(list("abcdefg")), 3, done)
    assert [(unit.first, "".join(image.path for image in unit.images)) for unit in units] == [
        (2, "c"),
        (4, "def"),
        (7, "g"),
    ]


def test_known_splits_do_not_move() -> None:
    """Splits are part of published datasets: these values must never change."""
    assert [split_of(f"photo-{n}", 0.3, "commforge") for n in range(8)] == EXPECTED_SPLITS
    assert split_of("x", 0.0, "s") == "train"
    assert split_of("x", 1.0, "s") == "test"


EXPECTED_SPLITS = ["train", "train", "train", "test", "train", "test", "train", "train"]


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_test_fraction_only_adds_to_test(group: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert (split_of(group, low, "s"), split_of(group, high, "s")) != ("test", "train")


def test_share_of_test_is_the_fraction_and_the_salt_matters() -> None:
    groups = [f"g{n}" for n in range(4000)]
    one, other = ([split_of(group, 0.2, salt) for group in groups] for salt in ("a", "b"))
    assert 0.17 < one.count("test") / 4000 < 0.23
    assert one != other


def test_crops_of_one_photograph_share_a_split_and_keep_it_under_growth() -> None:
    crops = {f"{n}-{crop}": f"photo{n}" for n in range(40) for crop in "ab"}
    few = sorted(crops)[:20]
    splits = {image.path: image.split for unit in plan(records(sorted(crops), crops)) for image in unit.images}
    before = {image.path: image.split for unit in plan(records(few, crops)) for image in unit.images}
    assert {splits[f"{n}-a"] == splits[f"{n}-b"] for n in range(40)} == {True}
    assert set(splits.values()) == {"train", "test"}
    assert before == {name: splits[name] for name in few}


def stored(photos: Path, tmp_path: Path, captions: str | None = None):
    """The rows and the tar of the folder's one unit, stored in a dataset; also the unit."""
    source = SOURCE.model_copy(update={"captions": captions and Path(captions)})
    found = read_real_source(source, tmp_path).records
    [unit] = plan_real_units(found, source, photos, 64, 0.5, "s")
    dataset = tmp_path / "dataset"
    Dataset.create(dataset, "d", {})
    with UnitWriter(dataset, tmp_path / "spool", unit.unit, real_generator_name(source)) as writer:
        store_real_unit(unit, writer)
        receipt = writer.publish()
    rows = pq.read_table(dataset / receipt.rows.name).to_pylist()
    return unit, rows, dataset / receipt.images.name


def test_bytes_are_untouched_and_rows_are_complete(photos: Path, tmp_path: Path) -> None:
    (photos / "t.csv").write_text("file,caption,class_label,content\na.JPEG,a dog,dog,animals\n")
    unit, rows, tar = stored(photos, tmp_path, "t.csv")
    assert len(rows) == 6
    with tarfile.open(tar) as archive:
        members = {member.name: archive.extractfile(member).read() for member in archive}
    for place, (row, planned) in enumerate(zip(rows, unit.images, strict=True)):
        original = (photos / planned.path).read_bytes()
        assert original in members.values()
        assert tar.read_bytes()[row["offset"] : row["offset"] + row["length"]] == original
        image = Image.open(io.BytesIO(original))
        expected = {
            "image_id": real_image_id(original),
            "source_image_id": real_image_id(original),
            "label": 0,
            "status": "ok",
            "reason": "none",
            "unit": unit.unit,
            "generation": 0,
            "index": place,
            "generator": "real-r",
            "kind": "real",
            "real_source": "r",
            "license": "CC-BY-4.0",
            "split": planned.split,
            "sha256": planned.sha256,
            "format": image.format,
            "mode": image.mode,
            "width": image.width,
            "height": image.height,
            "phash": str(imagehash.phash(image)),
        }
        assert {key: row[key] for key in expected} == expected
    first, second = rows[:2]
    assert (first["prompt"], first["prompt_source"]) == ("a dog", "caption")
    assert (first["class_label"], first["content"]) == ("dog", "animals")
    assert first["prompt_id"] == prompt_id_of("caption", "a dog", first["image_id"])
    assert (second["prompt"], second["prompt_id"], second["content"]) == (None, None, "photos")
    # The JPEG is turned by its EXIF only: size is as stored, and the maker's name is still in the bytes.
    assert (first["width"], first["height"]) == (48, 40)
    assert Image.open(io.BytesIO(members[f"{first['image_id']}.jpg"])).getexif()[0x010F] == "Camera Maker"


def test_a_file_that_changed_or_went_since_the_plan(photos: Path, tmp_path: Path, make_image) -> None:
    found = read_real_source(SOURCE, tmp_path).records
    [unit] = plan_real_units(found, SOURCE, photos, 64, 0.5, "s")
    Dataset.create(tmp_path / "dataset", "d", {})

    def failure() -> UnitFailure:
        with UnitWriter(tmp_path / "dataset", tmp_path / "spool", unit.unit, "real-r") as writer:
            with pytest.raises(UnitFailure) as caught:
                store_real_unit(unit, writer)
            return caught.value

    (photos / "b.PNG").write_bytes(make_image(99))
    assert failure().reason is Reason.checksum_mismatch
    assert failure().detail.startswith(f"{photos}/b.PNG: the file changed after the plan was made: sha256 ")
    (photos / "b.PNG").unlink()
    assert failure().reason is Reason.missing_file
    assert failure().detail == f"{photos}/b.PNG: cannot be read: No such file or directory"


def test_unit_is_the_same_on_every_machine(photos: Path) -> None:
    found = read_real_source(SOURCE, photos.parent).records
    [here] = plan_real_units(found, SOURCE, photos, 64, 0.5, "s")
    elsewhere = SOURCE.model_copy(update={"path": Path("/mnt/other")})
    [there] = plan_real_units(found, elsewhere, Path("/mnt/other"), 64, 0.5, "s")
    assert here.unit == there.unit
    relabelled = [record.model_copy(update={"caption": "x"}) for record in found]
    [other] = plan_real_units(relabelled, SOURCE, photos, 64, 0.5, "s")
    assert other.unit != here.unit
    assert json.loads(here.model_dump_json())["first"] == 0
