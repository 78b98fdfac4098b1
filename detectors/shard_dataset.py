"""A torch data set over committed shards: one ranged read per image, no conversion, any image format."""

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
from PIL import Image
from torch.utils.data import Dataset

from detectors.preprocessing import UnreadableImage, decode_rgb
from shards import layout
from shards.reader import ShardDamaged
from shards.storage import read_range_of

_OPEN_FILES = 64

T = TypeVar("T")


class ShardImages(Dataset[tuple[T, int, int]], Generic[T]):
    """The images of `rows` (from `select_rows`), in that order.

    Item i is (transform(image), label, i). Safe in DataLoader workers under fork and spawn: open files belong to the
    process that opened them, and reads carry their own offset.

    Raises on access:
        ShardDamaged (an InputError): a shard is missing or short, or an image in it cannot be decoded.
    """

    def __init__(self, root: Path, rows: pa.Table, transform: Callable[[Image.Image], T]) -> None:
        self._root = root
        self._transform = transform
        files = rows["file"].combine_chunks().dictionary_encode()
        self._names: list[str] = files.dictionary.to_pylist()
        for name in self._names:  # rows may come from an imported dataset
            if name is None or not layout.is_relative(name):
                raise ShardDamaged(f"{root}: a row's file {name!r} is outside the dataset")
        self._file = files.indices.to_numpy(zero_copy_only=False)
        self._offset = rows["offset"].to_numpy()
        self._length = rows["length"].to_numpy()
        self._image_id = rows["image_id"].combine_chunks()
        self.labels: np.ndarray = rows["label"].to_numpy()
        self._handles = _FileHandles(root)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[T, int, int]:
        return self._transform(self.image(index)), int(self.labels[index]), index

    def image(self, index: int) -> Image.Image:
        """Return image `index`, decoded to RGB."""
        try:
            return decode_rgb(self.image_bytes(index))
        except UnreadableImage as error:
            name = self._names[self._file[index]]
            raise ShardDamaged(f"{self._root / name}: image {self._image_id[index].as_py()}: {error}") from error

    def image_bytes(self, index: int) -> bytes:
        """Return the stored bytes of image `index`, untouched."""
        name = self._names[self._file[index]]
        length = int(self._length[index])
        data = read_range_of(self._handles.descriptor(name), int(self._offset[index]), length)
        if len(data) != length:
            raise ShardDamaged(
                f"{self._root / name}: ends before image {self._image_id[index].as_py()} does; "
                f"run `commforge dataset verify {self._root}`"
            )
        return data


class _FileHandles:
    """The most recently read shards, kept open; each process has its own."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._owner = os.getpid()
        self._open: OrderedDict[str, int] = OrderedDict()

    def descriptor(self, name: str) -> int:
        if self._owner != os.getpid():  # forked: the parent's descriptors were copied, give the copies back
            self.close()
            self._owner = os.getpid()
        if name in self._open:
            self._open.move_to_end(name)
            return self._open[name]
        if len(self._open) >= _OPEN_FILES:
            os.close(self._open.popitem(last=False)[1])
        path = self._root / name
        try:
            self._open[name] = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except FileNotFoundError:
            raise ShardDamaged(f"{path}: missing; run `commforge dataset verify {self._root}`") from None
        return self._open[name]

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def __del__(self) -> None:
        if hasattr(self, "_open"):
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self._root}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["root"])  # type: ignore[misc]
