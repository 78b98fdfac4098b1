"""Real images as label-0 units: which image goes into which unit and split, and storing a unit's images untouched."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path

from captioning.image_facts import UnusableImage, read_image_facts
from captioning.make_prompt import prompt_id_of
from captioning.real_record import RealRecord
from manifests.real_source import RealSource
from manifests.unit import RealImage, RealUnitSpec
from shards.identifiers import real_image_id, sha256_bytes
from shards.statuses import Reason, Status, UnitFailure
from shards.writer import UnitWriter


def split_of(group: str, test_fraction: float, salt: str) -> str:
    """Return `train` or `test` for a group that must not be torn apart: a photograph, a lineage.

    It depends on nothing but the arguments, so a group keeps its side when others are added, and raising
    `test_fraction` moves groups only from train to test.
    """
    digest = hashlib.blake2b(f"{salt}\n{group}".encode(), digest_size=8).digest()
    return "test" if int.from_bytes(digest) < test_fraction * 2**64 else "train"


def real_generator_name(source: RealSource) -> str:
    """Return what stands in the column `generator` of a source's rows."""
    return f"real-{source.name}"


def plan_real_units(
    records: Sequence[RealRecord],
    source: RealSource,
    folder: Path,
    unit_images: int,
    test_fraction: float,
    salt: str,
    committed: Sequence[tuple[int, int]] = (),
    committed_sha256: Collection[str] = (),
) -> list[RealUnitSpec]:
    """Return the units that store what no commit holds yet, at most `unit_images` images each.

    `folder` is the source's folder on this machine; `committed` has (first, count) of the source's committed units and
    `committed_sha256` the hashes of their images.

    The images that are not committed fill the indices that are not committed, both in order. So an image gets the same
    index and unit whichever units a killed run had finished, and a source that grows leaves its units as they are.
    """
    stored = set(committed_sha256)
    waiting = iter([record for record in records if record.sha256 not in stored])
    units: list[RealUnitSpec] = []
    for first, size in _free_slots(committed, unit_images):
        images = tuple(_planned(record, test_fraction, salt) for record in islice(waiting, size))
        if not images:
            break
        units.append(RealUnitSpec(source=source, folder=folder, first=first, images=images))
    return units


def store_real_unit(unit: RealUnitSpec, writer: UnitWriter, generation: int = 0) -> None:
    """Add the unit's images to `writer`, bytes untouched, as label-0 rows; the caller publishes.

    `writer` is for this unit and `real_generator_name(unit.source)`.

    Raises:
        UnitFailure: `missing_file` when an image cannot be read, `checksum_mismatch` when it is another than was
            planned, `sampling_error` when this machine's Pillow cannot decode it.
    """
    for place, image in enumerate(unit.images):
        data = _planned_bytes(unit, image)
        writer.add(_row(unit, image, unit.first + place, generation, data), data)


def _free_slots(committed: Sequence[tuple[int, int]], unit_images: int) -> Iterator[tuple[int, int]]:
    """(first, size) of units that fill the gaps between committed intervals, then on without end."""
    start = 0
    for first, count in sorted(committed):
        while start < first:
            size = min(unit_images, first - start)
            yield start, size
            start += size
        start = max(start, first + count)
    while True:
        yield start, unit_images
        start += unit_images


def _planned(record: RealRecord, test_fraction: float, salt: str) -> RealImage:
    fields = record.model_dump(exclude={"image_id"})
    return RealImage(**fields, split=split_of(record.split_group, test_fraction, salt))


def _planned_bytes(unit: RealUnitSpec, image: RealImage) -> bytes:
    path = unit.folder / image.path
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnitFailure(Reason.missing_file, f"{path}: cannot be read: {error.strerror}") from error
    found = sha256_bytes(data)
    if found != image.sha256:
        detail = f"{path}: the file changed after the plan was made: sha256 {found}, planned {image.sha256}"
        raise UnitFailure(Reason.checksum_mismatch, detail)
    return data


def _row(unit: RealUnitSpec, image: RealImage, index: int, generation: int, data: bytes) -> dict[str, object]:
    try:
        facts = read_image_facts(data, with_phash=True)
    except UnusableImage as error:
        raise UnitFailure(Reason.sampling_error, f"{unit.folder / image.path}: {error}") from error
    image_id = real_image_id(data)
    row: dict[str, object] = {
        "image_id": image_id,
        "label": 0,
        "status": Status.ok.value,
        "reason": Reason.none.value,
        "unit": unit.unit,
        "generation": generation,
        "index": index,
        "generator": real_generator_name(unit.source),
        "kind": "real",
        "license": unit.source.license,
        "split": image.split,
        "content": image.content or unit.source.content,
        "class_label": image.class_label,
        "real_source": unit.source.name,
        "source_image_id": image_id,
        "width": facts.width,
        "height": facts.height,
        "format": facts.format,
        "mode": facts.mode,
        "phash": facts.phash,
    }
    if image.caption is not None:
        row |= {
            "prompt": image.caption,
            "prompt_id": prompt_id_of("caption", image.caption, image_id),
            "prompt_source": "caption",
        }
    return row
