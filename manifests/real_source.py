"""What a source of real photographs is."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from manifests.frozen import FrozenModel
from manifests.names import Slug


class RealSource(FrozenModel):
    """A collection of real images that become the dataset's label-0 rows.

    `folder`: every image file below `path`. `captions` names a CSV, relative to `path`, with the header
    `file` and any of `caption`, `photograph`, `class_label`, `content`; `file` is relative to `path`.
    """

    name: Slug
    kind: Literal["folder"] = "folder"
    path: Path = Field(description="folder with the images; relative to the file that names it")
    captions: Path | None = Field(default=None, description="CSV of captions, relative to `path`")
    license: str | None = None
    content: str | None = Field(default=None, description="photos, paintings, faces, ...; the CSV's column wins")
    limit: int | None = Field(default=None, ge=1, description="take the first N files in name order")
