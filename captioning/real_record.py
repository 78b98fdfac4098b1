"""A real image as a source's reader found it, and what the reader left out."""

from dataclasses import dataclass

from manifests.frozen import FrozenModel


class RealRecord(FrozenModel):
    """One real image. `path` is relative to the source's folder, with `/`; texts are None where none was given.

    `image_id` is of the file's bytes (`shards.identifiers.real_image_id`); `photograph` names the photograph that this
    image was cut from, None when it is a whole one.
    """

    path: str
    sha256: str
    image_id: str
    caption: str | None = None
    photograph: str | None = None
    class_label: str | None = None
    content: str | None = None

    @property
    def split_group(self) -> str:
        """What must stay within one split: the photograph, else the image's bytes."""
        return self.photograph or self.sha256


@dataclass(frozen=True)
class SkippedFile:
    """An image file that is no record, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class SourceContents:
    """A source's images in a stable order (by path), and every image file that was left out."""

    records: tuple[RealRecord, ...]
    skipped: tuple[SkippedFile, ...] = ()
