"""Read a source of real images. A kind of source is one file with a reader, and one line here."""

from collections.abc import Callable
from pathlib import Path

from captioning.folder_source import read_folder
from captioning.real_record import SourceContents
from manifests.real_source import RealSource

READERS: dict[str, Callable[[RealSource, Path], SourceContents]] = {
    "folder": read_folder,
}


def read_real_source(source: RealSource, base: Path) -> SourceContents:
    """Return the source's images in a stable order, with what was skipped; a relative `path` is resolved from `base`.

    Raises:
        InputError: the source is not there, is empty, or its texts are wrong; names file, line and value.
    """
    return READERS[source.kind](source, base)
