"""Copies the dataset's images beside the page: the stored bytes, each image once, under its id."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manifests.errors import InputError
from pipeline.report.picture_facts import Fact, Picture
from shards.dataset import Dataset

FOLDER = "images"

_EXTENSIONS = {"PNG": "png", "JPEG": "jpg", "MPO": "jpg", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "AVIF": "avif"}
_IMAGE_ID = re.compile(r"[0-9a-f]{32}")


class Pictures:
    """The page's pictures. `problems`: which could not be shown and why. `bytes`: the size of all files so far."""

    def __init__(self, page_folder: Path) -> None:
        self._folder = page_folder / FOLDER
        self._sources: dict[str, str | None] = {}
        self.problems: list[str] = []
        self.bytes = 0

    def show(
        self, dataset: Dataset, row: Mapping[str, Any], source: Picture | None = None, score: float | None = None
    ) -> Picture | None:
        """Copy the image of a dataset row and return what the page says of it; None when it cannot be shown."""
        src = self._copy(dataset, row)
        if src is None:
            return None
        prompt = row["prompt"] or row["class_label"] or row["prompt_sent"] or ""  # the last: a class that was drawn
        return Picture(
            image_id=row["image_id"],
            src=src,
            width=row["width"],
            height=row["height"],
            label=row["label"],
            generator=row["generator"],
            prompt=prompt,
            alt=_alternative(row, prompt),
            details=_details(row),
            source=source,
            score=score,
        )

    def sweep(self) -> None:
        """Remove the pictures of an earlier report that this one does not show."""
        if not self._folder.is_dir():
            return
        wanted = {Path(src).name for src in self._sources.values() if src is not None}
        for file in sorted(self._folder.iterdir()):
            if file.is_file() and file.name not in wanted:
                file.unlink()
        if not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _copy(self, dataset: Dataset, row: Mapping[str, Any]) -> str | None:
        image_id = row["image_id"]
        if image_id in self._sources:
            return self._sources[image_id]
        self._sources[image_id] = None  # one attempt, one problem
        extension = _EXTENSIONS.get(row["format"] or "")
        if not _IMAGE_ID.fullmatch(image_id):
            self.problems.append(f"image {image_id!r}: not an image id")
        elif extension is None:
            self.problems.append(f"image {image_id}: browsers do not show {row['format'] or 'an unknown format'}")
        else:
            try:
                data = dataset.image_bytes(row, verify=True)
            except (InputError, OSError) as error:  # a damaged shard: the page says so and goes on
                self.problems.append(str(error).replace(f"{dataset.root}/", ""))
                return None
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / f"{image_id}.{extension}").write_bytes(data)
            self.bytes += len(data)
            self._sources[image_id] = f"{FOLDER}/{image_id}.{extension}"
        return self._sources[image_id]


def _alternative(row: Mapping[str, Any], prompt: str) -> str:
    if row["label"] == 0:
        return f"Real photograph: {prompt}" if prompt else f"Real photograph from {row['generator']}, without a caption"
    return prompt if prompt else f"Sample of {row['generator']}, made without a prompt"


def _details(row: Mapping[str, Any]) -> tuple[Fact, ...]:
    """What is known of the image, in the order in which a reader asks."""
    guidance = row["guidance_scale"]
    shown = {
        "Prompt from": row["prompt_source"],
        "Class": row["class_label"] if row["prompt"] else None,
        "Size": f"{row['width']} × {row['height']} {row['format']}",
        "Steps": row["steps"],
        "Guidance": None if guidance is None else f"{guidance:g}",
        "Scheduler": row["scheduler"],
        "Seed": row["seed"],
        "Split": row["split"],
        "Licence": row["license"],
        "Revision": row["revision"],
        "Image": row["image_id"],
    }
    code = {"Scheduler", "Seed", "Revision", "Image"}
    return tuple(Fact(name, str(value), name in code) for name, value in shown.items() if value is not None)
