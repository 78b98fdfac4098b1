"""Small real datasets: real PNG bytes, real shards, real commits."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from shards.commits import Commit, UnitInfo
from shards.dataset import Dataset
from shards.identifiers import content_hash, image_id, real_image_id
from shards.schema import empty_row
from shards.statuses import Reason
from shards.writer import Receipt, UnitWriter


def _encoded(color: tuple[int, int, int], size: int = 8, format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), color).save(buffer, format)
    return buffer.getvalue()


def _row(unit: str, index: int, reason: Reason = Reason.none, generator: str = "gen", **columns: Any) -> dict[str, Any]:
    row = empty_row() | {
        "image_id": image_id(generator, "rev", f"p{index}", index),
        "label": 1,
        "status": reason.status,
        "reason": reason,
        "unit": unit,
        "index": index,
        "generator": generator,
        "kind": "text-to-image",
        "prompt": f"prompt {index}",
        "prompt_id": f"p{index}",
        "seed": 7 + abs(index),
    }
    if not reason.status.failed:
        row |= {"width": 8, "height": 8, "format": "PNG", "mode": "RGB"}
    return row | columns


class Workshop:
    """Makes units in one dataset."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "dataset"
        self.spool = folder / "spool"
        self.dataset = Dataset.create(self.root, "test", {"dtype": "float32"}, licence_notes="none")

    def unit(self, name: str) -> str:
        return content_hash(name)

    def publish(
        self,
        name: str,
        first: int = 0,
        reasons: Sequence[Reason] = (Reason.none,) * 3,
        generator: str = "gen",
        generation: int = 0,
        **columns: Any,
    ) -> tuple[UnitInfo, Receipt]:
        """Publish a fake unit with one target draw per reason."""
        unit = self.unit(name)
        with UnitWriter(self.root, self.spool, unit, generator) as writer:
            for number, reason in enumerate(reasons):
                index = first + number
                row = _row(unit, index, reason, generator, generation=generation, **columns)
                writer.add(row, _encoded((index % 256, 1, 2)) if reason is Reason.none else None)
            receipt = writer.publish()
        info = UnitInfo(
            unit=unit,
            generator=generator,
            revision="rev",
            label=1,
            first=first,
            count=len(reasons),
            generation=generation,
        )
        return info, receipt

    def commit(self, name: str, **options: Any) -> Commit:
        """Publish and commit a fake unit."""
        return self.record(*self.publish(name, **options))

    def record(self, info: UnitInfo, receipt: Receipt) -> Commit:
        """Commit what was published."""
        commit = Commit.of(info, receipt, environment="cpu", versions={"torch": "1"}, host="h", seconds=1.5)
        Dataset.open(self.root).log.commit(commit)
        return commit

    def commit_reals(self, name: str, images: Sequence[bytes], source: str = "photos", format: str = "JPEG") -> Commit:
        """Commit a label-0 unit of these image files."""
        unit = self.unit(name)
        with UnitWriter(self.root, self.spool, unit, source) as writer:
            for index, data in enumerate(images):
                columns = {
                    "label": 0,
                    "image_id": real_image_id(data),
                    "kind": "real",
                    "format": format,
                    "prompt_id": None,
                }
                writer.add(_row(unit, index, generator=source, **columns), data)
            receipt = writer.publish()
        return self.record(UnitInfo(unit=unit, generator=source, label=0, first=0, count=len(images)), receipt)

    def files(self) -> list[str]:
        """Every file of the dataset, relative and sorted."""
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


@pytest.fixture
def row() -> Callable[..., dict[str, Any]]:
    """row(unit, index, reason, generator, **columns): a valid row."""
    return _row


@pytest.fixture
def encoded() -> Callable[..., bytes]:
    """encoded(color, size, format): the bytes of a real image file."""
    return _encoded
