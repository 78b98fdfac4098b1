"""Units become exactly two files, equal content gives equal files, and nothing wrong gets as far as a byte."""

import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from manifests.errors import InputError
from shards.identifiers import sha256_bytes
from shards.schema import ROW_SCHEMA
from shards.statuses import Reason
from shards.writer import RowError, UnitWriter

UNIT = "0123456789abcdef" * 2


@pytest.fixture
def writer(workshop: Any) -> Any:
    with UnitWriter(workshop.root, workshop.spool, UNIT, "gen") as writer:
        yield writer


def test_exact_files_rows_and_bytes(workshop: Any, row: Callable[..., dict], encoded: Callable[..., bytes]) -> None:
    one, two = encoded((1, 2, 3)), encoded((4, 5, 6), format="JPEG")
    with UnitWriter(workshop.root, workshop.spool, UNIT, "gen") as writer:
        writer.add(row(UNIT, 0), one)
        writer.add(row(UNIT, 1, Reason.nsfw, sha256="a" * 64, nsfw_flag=True, nsfw_score=0.5))
        writer.add(row(UNIT, -1, format="JPEG"), two)
        receipt = writer.publish()
    assert receipt.images is not None
    tar, rows = (
        f"images/gen/{UNIT}-{receipt.images.sha256[:12]}.tar",
        f"rows/gen/{UNIT}-{receipt.rows.sha256[:12]}.parquet",
    )
    assert workshop.files() == ["dataset.json", tar, rows]
    assert list(workshop.spool.iterdir()) == []
    for record, name in ((receipt.images, tar), (receipt.rows, rows)):
        content = (workshop.root / name).read_bytes()
        assert (record.name, record.bytes, record.sha256) == (name, len(content), hashlib.sha256(content).hexdigest())
    assert receipt.counts == {"ok": 2, "flagged": 1} and receipt.reasons == {"none": 2, "nsfw": 1}
    assert not receipt.retryable

    table = pq.read_table(workshop.root / rows, partitioning=None)
    assert table.schema.equals(ROW_SCHEMA)
    first, flagged, second = table.to_pylist()
    assert first == row(UNIT, 0) | {"file": tar, "offset": 512, "length": len(one), "sha256": sha256_bytes(one)}
    assert flagged == row(UNIT, 1, Reason.nsfw, sha256="a" * 64, nsfw_flag=True, nsfw_score=0.5)
    content = (workshop.root / tar).read_bytes()
    assert content[second["offset"] : second["offset"] + second["length"]] == two
    assert content[second["offset"] - 512 :].startswith(f"{second['image_id']}.jpg".encode())


def test_no_tar_when_no_image(workshop: Any) -> None:
    _, receipt = workshop.publish("u", reasons=[Reason.corrupt_weights] * 2)
    assert receipt.images is None
    assert workshop.files() == ["dataset.json", receipt.rows.name]
    assert receipt.counts == {"load_failed": 2} and receipt.reasons == {"corrupt_weights": 2}


def test_kept_flagged_image_is_stored(
    workshop: Any, row: Callable[..., dict], encoded: Callable[..., bytes], writer: Any
) -> None:
    writer.add(row(UNIT, 0, Reason.nsfw), encoded((0, 0, 0)))
    receipt = writer.publish()
    assert receipt.images is not None and receipt.counts == {"flagged": 1}


def test_equal_content_gives_equal_files(tmp_path: Path) -> None:
    from shards.dataset import Dataset  # two datasets, so that neither can borrow the other's files

    contents = []
    for name in ("one", "two"):
        workshop_root = tmp_path / name
        Dataset.create(workshop_root, name, {})
        contents.append(_publish_fixed(workshop_root, tmp_path / "spool"))
    assert contents[0] == contents[1] and len(contents[0]) == 2


def _publish_fixed(root: Path, spool: Path) -> dict[str, bytes]:
    from shards.schema import empty_row

    image = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20
    with UnitWriter(root, spool, UNIT, "gen") as writer:
        for index in range(40):
            columns = {
                "image_id": f"{index:032x}",
                "label": 1,
                "status": "ok",
                "reason": "none",
                "unit": UNIT,
                "index": index,
            }
            columns |= {"generator": "gen", "kind": "k", "width": 1, "height": 1, "format": "PNG", "mode": "RGB"}
            writer.add(empty_row() | columns | {"prompt": f"prompt {index}", "nsfw_score": index / 7}, image)
        receipt = writer.publish()
    assert receipt.images is not None
    return {name: (root / name).read_bytes() for name in (receipt.images.name, receipt.rows.name)}


def test_publishing_again_heals_a_damaged_copy(workshop: Any) -> None:
    _, receipt = workshop.publish("u")
    path = workshop.root / receipt.images.name
    good = path.read_bytes()
    path.write_bytes(b"damaged")
    assert workshop.publish("u")[1] == receipt
    assert path.read_bytes() == good
    assert len(workshop.files()) == 3


def test_spool_on_another_file_system(workshop: Any, row: Callable[..., dict], encoded: Callable[..., bytes]) -> None:
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == workshop.root.stat().st_dev:
        pytest.skip("needs a second file system")
    spool = elsewhere / f"commforge-test-{os.getpid()}"
    try:
        with UnitWriter(workshop.root, spool, UNIT, "gen") as writer:
            writer.add(row(UNIT, 0), encoded((1, 1, 1)))
            receipt = writer.publish()
        assert list(spool.iterdir()) == []
    finally:
        spool.rmdir()
    assert workshop.files() == ["dataset.json", receipt.images.name, receipt.rows.name]
    assert sha256_bytes((workshop.root / receipt.images.name).read_bytes()) == receipt.images.sha256


def test_leaving_the_context_discards(workshop: Any, row: Callable[..., dict], encoded: Callable[..., bytes]) -> None:
    with pytest.raises(KeyboardInterrupt), UnitWriter(workshop.root, workshop.spool, UNIT, "gen") as writer:
        writer.add(row(UNIT, 0), encoded((1, 1, 1)))
        raise KeyboardInterrupt
    assert workshop.files() == ["dataset.json"] and list(workshop.spool.iterdir()) == []
    with pytest.raises(ValueError, match="already published or discarded"):
        writer.add(row(UNIT, 1), encoded((1, 1, 1)))


PNG = "valid image"
BAD_ROWS: dict[str, tuple[dict[str, Any], bytes | str | None, str]] = {
    "unknown column": ({"colour": "red"}, PNG, "unknown column 'colour'"),
    "null in a required column": ({"generator": None}, PNG, "'generator' must not be null"),
    "id of another form": ({"image_id": "ABC"}, PNG, "32 hex digits"),
    "label": ({"label": 2}, PNG, "must be 0 .real. or 1 .fake."),
    "bool for an integer": ({"steps": True}, PNG, "'steps' is True .bool.; it must be int32"),
    "number for a bool": ({"truncated": 1}, PNG, "'truncated' is 1 .int.; it must be bool"),
    "text for a number": ({"guidance_scale": "7"}, PNG, "must be float64"),
    "number for text": ({"prompt": 7}, PNG, "must be string"),
    "too large": ({"steps": 2**31}, PNG, "must fit int32"),
    "seed beyond 63 bits": ({"seed": 2**63}, PNG, "must fit int64"),
    "negative seed": ({"seed": -1}, PNG, "must not be negative"),
    "not a number": ({"nsfw_score": float("nan")}, PNG, "must be finite"),
    "half a surrogate pair": ({"prompt": "\ud800"}, PNG, "not valid Unicode"),
    "call that is no JSON": ({"call_kwargs": "{"}, PNG, "not JSON"),
    "call that is no object": ({"call_kwargs": "[]"}, PNG, "must be a JSON object"),
    "unknown status": ({"status": "fine"}, PNG, "'status' is 'fine'; allowed: ok, flagged"),
    "unknown reason": ({"reason": "because"}, PNG, "'reason' is 'because'; allowed: none, nsfw"),
    "reason of another status": ({"reason": "nsfw"}, PNG, "cannot have status 'ok'; its reasons: none"),
    "ok without image": ({}, None, "status 'ok' needs an image"),
    "failure with image": ({"status": "oom", "reason": "device_oom"}, PNG, "status 'oom' has no image"),
    "empty image": ({}, b"", "the image has 0 bytes"),
    "image without size": ({"width": None}, PNG, "'width' must not be null when there is an image"),
    "no pixels": ({"height": 0}, PNG, "must be at least 1 pixel"),
    "unknown format": ({"format": "XCF"}, PNG, "'format' is 'XCF'; allowed: PNG, JPEG"),
    "format that the bytes deny": ({"format": "JPEG"}, PNG, "the image's bytes are not JPEG"),
    "file given": ({"file": "images/x.tar"}, PNG, "'file' is filled by the writer"),
    "wrong hash": ({"sha256": "0" * 64}, PNG, "but the image's is"),
    "hash of another form": ({"sha256": "xyz"}, PNG, "64 hex digits"),
    "another unit": ({"unit": "f" * 32}, PNG, "'unit' is 'ffff"),
    "another generator": ({"generator": "other"}, PNG, "'generator' is 'other', but the writer's is 'gen'"),
    "another generation": ({"generation": 1}, PNG, "generation 1, but the unit's is 0"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_refused_before_its_first_byte(
    case: str, writer: Any, row: Callable[..., dict], encoded: Callable[..., bytes], workshop: Any
) -> None:
    changes, image, message = BAD_ROWS[case]
    writer.add(row(UNIT, 0), encoded((0, 0, 0)))
    with pytest.raises(RowError, match=message):
        writer.add(row(UNIT, 1) | changes, encoded((1, 1, 1)) if isinstance(image, str) else image)
    writer.add(row(UNIT, 2), encoded((2, 2, 2)))
    receipt = writer.publish()
    tar = (workshop.root / receipt.images.name).read_bytes()
    rows = pq.read_table(workshop.root / receipt.rows.name, partitioning=None).to_pylist()
    assert [(r["index"], tar[r["offset"] :][: r["length"]]) for r in rows] == [
        (0, encoded((0, 0, 0))),
        (2, encoded((2, 2, 2))),
    ]


def test_same_id_twice_in_a_unit_is_refused(
    writer: Any, row: Callable[..., dict], encoded: Callable[..., bytes]
) -> None:
    writer.add(row(UNIT, 0), encoded((0, 0, 0)))
    with pytest.raises(RowError, match="already in this unit"):
        writer.add(row(UNIT, 0), encoded((0, 0, 0)))


def test_numpy_scalars_become_plain_values(
    writer: Any, row: Callable[..., dict], encoded: Callable[..., bytes], workshop: Any
) -> None:
    scalars = {"nsfw_flag": np.bool_(False), "nsfw_score": np.float32(-0.5), "steps": np.int64(4)}
    writer.add(row(UNIT, 0) | scalars, encoded((0, 0, 0)))
    stored = pq.read_table(workshop.root / writer.publish().rows.name, partitioning=None).to_pylist()[0]
    assert (stored["nsfw_flag"], stored["nsfw_score"], stored["steps"]) == (False, -0.5, 4)


def test_a_unit_needs_a_draw(writer: Any) -> None:
    with pytest.raises(RowError, match="at least one draw"):
        writer.publish()


@pytest.mark.parametrize(
    ("unit", "generator"), [("a.b", "gen"), ("../x", "gen"), ("", "gen"), ("u", "a/b"), ("u", "..")]
)
def test_names_that_could_leave_their_folder_are_refused(workshop: Any, unit: str, generator: str) -> None:
    with pytest.raises(RowError, match="allowed are"):
        UnitWriter(workshop.root, workshop.spool, unit, generator)
    assert not workshop.spool.exists()


def test_a_folder_that_is_no_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path}: no dataset here"):
        UnitWriter(tmp_path, tmp_path / "spool", "u", "gen")


def test_receipt_survives_pickling(workshop: Any) -> None:
    _, receipt = workshop.publish("u", reasons=[Reason.none, Reason.device_oom])
    assert pickle.loads(pickle.dumps(receipt)) == receipt
    assert receipt.retryable
