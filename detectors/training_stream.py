"""The endless sequence of training samples as a pure function of seed and position.

Which image is sample number p, and every random choice of its augmentation, follow from (seed, p) alone. So the order
of samples does not depend on the number of loader workers or processes, and a resume needs the position alone.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from detectors.augmentation import TrainingTransform
from detectors.shard_dataset import ShardImages

Balance = Literal["none", "label", "generator"]

_DRAW, _AUGMENT, _EPOCH = 0, 1, 2


class SampleOrder:
    """Maps a position in the stream to an image number.

    balance:
        none: every image once per epoch, in an order shuffled anew for each epoch.
        label: reals and fakes with equal chance, then uniform over the class's images (with replacement).
        generator: reals and fakes with equal chance, then uniform over the class's generators (or real sources), then
            over that generator's images; so a generator of 10 images is seen as often as one of 10,000.
    """

    def __init__(self, labels: NDArray[np.int8], generators: NDArray[np.int64], balance: Balance, seed: int) -> None:
        self._count = len(labels)
        self._balance = balance
        self._seed = seed
        self._epoch = -1
        self._permutation = np.empty(0, dtype=np.int64)
        self._groups: list[list[NDArray[np.int64]]] = []
        for label in (0, 1):
            members = np.flatnonzero(labels == label)
            if balance == "generator":
                names = generators[members]
                self._groups.append([members[names == name] for name in np.unique(names)])
            else:
                self._groups.append([members])

    def image(self, position: int) -> int:
        """Return the image number of sample `position` (>= 0)."""
        if self._balance == "none":
            epoch, place = divmod(position, self._count)
            if epoch != self._epoch:
                self._epoch = epoch
                self._permutation = np.random.default_rng([self._seed, _EPOCH, epoch]).permutation(self._count)
            return int(self._permutation[place])
        rng = np.random.default_rng([self._seed, _DRAW, position])
        groups = self._groups[int(rng.integers(2))]
        members = groups[int(rng.integers(len(groups)))]
        return int(members[int(rng.integers(len(members)))])


class TrainingStream(Dataset[tuple[torch.Tensor, int, int]]):
    """Item p is sample number p of the stream: (augmented tensor (3, S, S), label, image number)."""

    def __init__(
        self, images: ShardImages[torch.Tensor], order: SampleOrder, transform: TrainingTransform, seed: int
    ) -> None:
        self._images = images
        self._order = order
        self._augment = transform
        self._seed = seed

    def __getitem__(self, position: int) -> tuple[torch.Tensor, int, int]:
        index = self._order.image(position)
        rng = np.random.default_rng([self._seed, _AUGMENT, position])
        return self._augment(self._images.image(index), rng), int(self._images.labels[index]), index


class BatchPositions:
    """The batches of positions of one process: micro-batch after micro-batch, from one iteration to another.

    Iteration i covers positions i × batch_size up to (i + 1) × batch_size. They are cut into
    `accumulation` × `processes` equal micro-batches, and process `rank` takes every `processes`-th. Serves as a
    DataLoader's batch_sampler.
    """

    def __init__(
        self, start: int, stop: int, batch_size: int, accumulation: int = 1, rank: int = 0, processes: int = 1
    ) -> None:
        self._iterations = range(start, stop)
        self._batch_size = batch_size
        self._accumulation = accumulation
        self._rank = rank
        self._processes = processes

    def __len__(self) -> int:
        return len(self._iterations) * self._accumulation

    def __iter__(self) -> Iterator[range]:
        size = self._batch_size // (self._accumulation * self._processes)
        for iteration in self._iterations:
            for micro in range(self._accumulation):
                first = iteration * self._batch_size + (micro * self._processes + self._rank) * size
                yield range(first, first + size)
