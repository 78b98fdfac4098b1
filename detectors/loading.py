"""Batches from a data set, through loader processes that hand a user's mistake on as it is."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from manifests.errors import InputError


def batches(
    dataset: Dataset[Any], positions: Iterable[Sequence[int]], workers: int, device: torch.device
) -> Iterator[Any]:
    """Yield the collated items of each batch of `positions`, in order, read ahead by `workers` processes (0: none).

    Raises:
        InputError: the one that an item raised, with its own message. (A DataLoader alone would put the worker's
            traceback into it.)
    """
    loader: DataLoader[Any] = DataLoader(
        _Caught(dataset),
        batch_sampler=positions,  # type: ignore[arg-type]  # any iterable of batches will do
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),
    )
    for batch in loader:
        if isinstance(batch, InputError):
            raise batch
        yield batch


def consecutive(count: int, size: int) -> list[range]:
    """Return 0..count-1 cut into batches of `size`; the last may be short."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


class _Caught(Dataset[Any]):
    def __init__(self, inner: Dataset[Any]) -> None:
        self._inner = inner

    def __getitem__(self, index: int) -> Any:
        try:
            return self._inner[index]
        except InputError as error:
            return error


def _collate(items: list[Any]) -> Any:
    for item in items:
        if isinstance(item, InputError):
            return item
    return default_collate(items)
