"""Small real datasets, made with the real writer and commit log."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detectors.train_config import TrainConfig
from detectors.training import train
from shards.commits import Commit, UnitInfo
from shards.dataset import Dataset
from shards.identifiers import content_hash, image_id, real_image_id
from shards.writer import UnitWriter


def encode(pixels: np.ndarray, image_format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format, **options)
    return buffer.getvalue()


@dataclass
class ToyDataset:
    """A dataset under construction; `add` commits one unit and returns the image ids in order."""

    root: Path
    spool: Path
    units: int = 0
    dataset: Dataset = field(init=False)

    def __post_init__(self) -> None:
        self.dataset = Dataset.create(self.root, "toy", {"note": "tests"})

    def add(
        self,
        generator: str,
        label: int,
        images: Sequence[bytes | None],
        *,
        split: str | None = None,
        sources: Sequence[str | None] | None = None,
        image_format: str = "PNG",
        reason: str = "nan",
    ) -> list[str]:
        """Commit one unit. An image that is None is a draw that failed its quality guard, without bytes."""
        unit = content_hash([generator, label, self.units])
        self.units += 1
        ids = []
        with UnitWriter(self.root, self.spool, unit, generator) as writer:
            for index, data in enumerate(images):
                number = self.units * 1000 + index
                identity = (
                    real_image_id(data)
                    if label == 0 and data is not None
                    else image_id(generator, "r", f"p{number}", number)
                )
                row: dict[str, Any] = {
                    "image_id": identity,
                    "label": label,
                    "status": "ok" if data is not None else "degenerate",
                    "reason": "none" if data is not None else reason,
                    "unit": unit,
                    "index": number,
                    "generator": generator,
                    "kind": "real" if label == 0 else "text-to-image",
                    "split": split,
                    "source_image_id": None if sources is None else sources[index],
                }
                if data is not None:
                    with Image.open(io.BytesIO(data)) as image:
                        row |= {"width": image.width, "height": image.height, "mode": image.mode}
                        row["format"] = image.format
                writer.add(row, data)
                ids.append(identity)
            receipt = writer.publish()
        info = UnitInfo(
            unit=unit,
            generator=generator,
            label=label,
            first=self.units * 1000,
            count=len(images),
        )
        self.dataset.log.commit(Commit.of(info, receipt, environment=None, versions={}))
        return ids


@pytest.fixture
def toy(tmp_path: Path) -> ToyDataset:
    return ToyDataset(tmp_path / "dataset", tmp_path / "spool")


@pytest.fixture(scope="session")
def make_toy() -> Callable[[Path], ToyDataset]:
    return lambda folder: ToyDataset(folder / "dataset", folder / "spool")


@pytest.fixture(scope="session")
def to_bytes() -> Callable[..., bytes]:
    return encode


@pytest.fixture(scope="session")
def photo() -> Callable[[int], np.ndarray]:
    """photo(seed) -> uint8 (72, 80, 3): smooth colour blobs, different for each seed."""

    def make(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        small = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((80, 72), Image.Resampling.BICUBIC)
        return np.asarray(image)

    return make


@pytest.fixture(scope="session")
def fake() -> Callable[[int], np.ndarray]:
    """fake(seed) -> uint8 (72, 80, 3): photo(seed) with a checkerboard of 4-pixel cells over it."""

    def make(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        small = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        pixels = np.asarray(Image.fromarray(small).resize((80, 72), Image.Resampling.BICUBIC)).astype(int)
        rows, columns = np.indices(pixels.shape[:2])
        board = (((rows // 4 + columns // 4) % 2) * 2 - 1)[..., None] * 40
        return np.clip(pixels + board, 0, 255).astype(np.uint8)

    return make


@pytest.fixture(scope="session")
def separable(
    tmp_path_factory: pytest.TempPathFactory,
    photo: Callable[[int], np.ndarray],
    fake: Callable[[int], np.ndarray],
) -> Path:
    """Two training generators and an unseen test generator of 24 fakes each, paired with reals of the same split."""
    folder = tmp_path_factory.mktemp("separable")
    toy = ToyDataset(folder / "dataset", folder / "spool")
    for split, seeds, generators in (("train", range(48), ("gen-a", "gen-b")), ("test", range(100, 124), ("gen-c",))):
        reals = toy.add("photos", 0, [encode(photo(seed)) for seed in seeds], split=split)
        for number, generator in enumerate(generators):
            chosen = list(range(24 * number, 24 * number + 24))
            toy.add(
                generator,
                1,
                [encode(fake(seeds[place])) for place in chosen],
                split=split,
                sources=[reals[place] for place in chosen],
            )
    return toy.root


@pytest.fixture(scope="session")
def trained(separable: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny detector trained on the training split of `separable`."""
    out = tmp_path_factory.mktemp("trained") / "detector"
    config = TrainConfig(
        architecture="tiny-vit-64",
        iterations=40,
        batch_size=16,
        learning_rate=1e-3,
        augmentation="none",
        balance="generator",
        validation_fraction=0.1,
        validate_every=20,
        device="cpu",
    )
    train(separable, out, config)
    return out
