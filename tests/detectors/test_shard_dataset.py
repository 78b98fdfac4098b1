"""Committed images reach the detector byte for byte, in any format, from any number of processes."""

import io
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from torch import device

from detectors import shard_dataset
from detectors.loading import batches, consecutive
from detectors.selection import (
    Selection,
    dataset_fingerprint,
    require_both_classes,
    select_rows,
    selection_fingerprint,
)
from detectors.shard_dataset import ShardImages
from manifests.errors import InputError
from shards.reader import ShardDamaged

CPU = device("cpu")


def mean_colour(image):
    return np.asarray(image, dtype=np.float64).mean()


def ids(rows):
    return sorted(rows["image_id"].to_pylist())


@pytest.fixture
def mixed(toy, photo, to_bytes):
    """Images in four formats over three units, with a failed draw between them; returns (toy, image id -> bytes)."""
    stored = {}
    for generator, label, formats in (
        ("gen", 1, ["PNG", "WEBP"]),
        ("photos", 0, ["JPEG", "BMP"]),
        ("gen-2", 1, ["PNG", "PNG"]),
    ):
        data = [to_bytes(photo(len(stored) + n), name) for n, name in enumerate(formats)]
        drawn = [data[0], None, data[1]] if label else data
        found = toy.add(generator, label, drawn, split="train" if generator != "gen-2" else "test")
        stored |= {identity: content for identity, content in zip(found, drawn, strict=True) if content is not None}
    return toy, stored


def test_every_ok_image_of_every_format_byte_for_byte(mixed):
    toy, stored = mixed
    rows = select_rows(toy.root, Selection())
    images = ShardImages(toy.root, rows, mean_colour)
    assert rows["image_id"].to_pylist() == sorted(stored)
    for number, identity in enumerate(rows["image_id"].to_pylist()):
        assert images.image_bytes(number) == stored[identity]
        expected = Image.open(io.BytesIO(stored[identity])).convert("RGB")
        value, label, index = images[number]
        assert (value, index) == (mean_colour(expected), number)
        assert label == rows["label"][number].as_py()


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_processes_give_the_same_batches(mixed, workers):
    toy, stored = mixed
    rows = select_rows(toy.root, Selection())
    images = ShardImages(toy.root, rows, mean_colour)
    images[0]  # opens a file in this process before the workers are forked
    got = list(batches(images, consecutive(len(images), 4), workers, CPU))
    assert [len(batch[0]) for batch in got] == [4, 2]
    values = np.concatenate([batch[0].numpy() for batch in got])
    assert values.tolist() == [images[number][0] for number in range(len(stored))]
    assert np.concatenate([batch[2].numpy() for batch in got]).tolist() == list(range(6))


def _read_all(images, queue):
    queue.put([images.image_bytes(number) for number in range(len(images))])


def test_file_handles_belong_to_one_process(mixed):
    toy, _ = mixed
    images = ShardImages(toy.root, select_rows(toy.root, Selection()), mean_colour)
    here = [images.image_bytes(number) for number in range(len(images))]
    assert [pickle.loads(pickle.dumps(images)).image_bytes(n) for n in range(len(images))] == here
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=_read_all, args=(images, queue)) for _ in range(2)]
    for child in children:
        child.start()
    assert [queue.get(timeout=30) for _ in children] == [here, here]
    for child in children:
        child.join()
    assert [images.image_bytes(number) for number in range(len(images))] == here


def test_open_files_are_bounded_and_given_back(toy, photo, to_bytes, monkeypatch):
    handles = Path("/proc/self/fd")
    if not handles.is_dir():
        pytest.skip("needs /proc")
    monkeypatch.setattr(shard_dataset, "_OPEN_FILES", 3)
    for number in range(5):
        toy.add(f"gen-{number}", 1, [to_bytes(photo(number)[:8, :8])])
    before = len(list(handles.iterdir()))
    images = ShardImages(toy.root, select_rows(toy.root, Selection()), mean_colour)
    for _ in range(2):
        for number in range(5):
            images.image_bytes(number)
    assert len(list(handles.iterdir())) - before == 3
    del images
    assert len(list(handles.iterdir())) == before


@pytest.mark.parametrize("workers", [0, 1])
def test_damage_is_named_without_a_traceback(mixed, workers):
    toy, _ = mixed
    rows = select_rows(toy.root, Selection(generators=("gen",), labels=(1,)))
    tar = toy.root / rows["file"][0].as_py()
    whole = tar.read_bytes()

    def read():
        return list(batches(ShardImages(toy.root, rows, mean_colour), consecutive(2, 2), workers, CPU))

    tar.write_bytes(whole[:600])
    with pytest.raises(ShardDamaged, match=r"ends before image [0-9a-f]{32} does") as caught:
        read()
    assert "Traceback" not in str(caught.value)
    offset = rows["offset"][0].as_py()
    tar.write_bytes(whole[:offset] + bytes(64) + whole[offset + 64 :])
    with pytest.raises(ShardDamaged, match=r"image [0-9a-f]{32}: cannot decode"):
        read()
    tar.unlink()
    with pytest.raises(ShardDamaged, match="missing; run `commforge dataset verify"):
        read()


def test_a_row_that_points_outside_the_dataset_is_refused(mixed):
    toy, _ = mixed
    rows = select_rows(toy.root, Selection())
    hostile = rows.set_column(
        rows.schema.get_field_index("file"), "file", pa.array(["../../etc/passwd"] * rows.num_rows)
    )
    with pytest.raises(ShardDamaged, match="outside the dataset"):
        ShardImages(toy.root, hostile, mean_colour)


def test_selection_filters(toy, photo, to_bytes):
    made = {}
    for generator, label, split in (
        ("a", 1, "train"),
        ("b", 1, "train"),
        ("c", 1, "test"),
        ("coco", 0, "train"),
        ("laion", 0, "test"),
    ):
        made[generator] = toy.add(generator, label, [to_bytes(photo(len(made)))], split=split)[0]

    def chosen(**filters):
        return ids(select_rows(toy.root, Selection(**filters)))

    def of(*names):
        return sorted(made[name] for name in names)

    assert chosen() == of("a", "b", "c", "coco", "laion")
    assert chosen(split="train") == of("a", "b", "coco")
    assert chosen(generators=("a", "c")) == of("a", "c", "coco", "laion")
    assert chosen(split="train", exclude_generators=("a",)) == of("b", "coco")
    assert chosen(real_sources=("laion",), generators=("a",)) == of("a", "laion")
    assert chosen(labels=(0,)) == of("coco", "laion")
    with pytest.raises(InputError, match=r"split val not in it; it has: test, train"):
        chosen(split="val")
    with pytest.raises(InputError, match=r"generators d, e not in it; it has: a, b, c"):
        chosen(generators=("a", "d", "e"))
    with pytest.raises(InputError, match="no image matches"):
        chosen(split="test", generators=("a",), labels=(1,))
    with pytest.raises(InputError, match=r"no real images \(real images by split: test: 1, train: 1\)"):
        require_both_classes(toy.root, select_rows(toy.root, Selection(labels=(1,))), "training")


def test_rows_without_a_split_are_in_none(toy, photo, to_bytes):
    toy.add("a", 1, [to_bytes(photo(0))])
    toy.add("b", 1, [to_bytes(photo(1))], split="train")
    assert select_rows(toy.root, Selection(split="train"))["generator"].to_pylist() == ["b"]
    assert select_rows(toy.root, Selection()).num_rows == 2


def test_photographs_follow_sources_through_cuts_that_were_not_selected(toy, photo, to_bytes):
    whole = "ab" * 16
    cuts = toy.add("photos", 0, [to_bytes(photo(0)), to_bytes(photo(1))], sources=[whole, whole], split="other")
    plain = toy.add("photos", 0, [to_bytes(photo(2))], split="other")
    fakes = toy.add(
        "a", 1, [to_bytes(photo(n)) for n in range(3, 7)], sources=[cuts[0], cuts[1], plain[0], None], split="s"
    )
    rows = select_rows(toy.root, Selection(split="s"))
    got = dict(zip(rows["image_id"].to_pylist(), rows["photograph"].to_pylist(), strict=True))
    assert [got[fake] for fake in fakes] == [whole, whole, plain[0], fakes[3]]


def test_fingerprints_follow_the_data_and_not_the_order_of_commits(make_toy, tmp_path, photo, to_bytes):
    data = {name: [to_bytes(photo(number))] for number, name in enumerate("ab")}
    prints = []
    for number, order in enumerate(("ab", "ba")):
        toy = make_toy(tmp_path / str(number))
        for name in order:
            toy.units = "ab".index(name)
            toy.add(name, 1, data[name])
        prints.append((dataset_fingerprint(toy.root), selection_fingerprint(select_rows(toy.root, Selection()))))
    assert prints[0] == prints[1]
    toy.units = 9
    toy.add("c", 1, data["a"])
    assert dataset_fingerprint(toy.root) != prints[0][0]
    only_a = Selection(generators=("a", "b"))
    assert selection_fingerprint(select_rows(toy.root, only_a)) == prints[0][1]
