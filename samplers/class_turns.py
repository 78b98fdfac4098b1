"""Whose turn it is: classes in an order of the generator's own, each once before any comes twice.

Of the first N images of a generator, every class has as many as any other, or one more. This holds for every N, so it
holds over units, retries and a later raise of the count.
"""

import hashlib
from functools import lru_cache


class ClassTurns:
    """The classes 0..`classes` - 1 of one generator, in turns; each turn has another order."""

    def __init__(self, generator: str, classes: int) -> None:
        """`generator` is the name that makes its orders differ from others'.

        Raises:
            ValueError: no class.
        """
        if classes < 1:
            raise ValueError(f"{generator} has {classes} classes")
        self._generator = generator
        self._classes = classes
        self._order = lru_cache(maxsize=4)(self._order_of)

    def class_of(self, index: int) -> int:
        """Return the class of draw `index`. Reserve draws, which are negative, have turns of their own."""
        turn, place = divmod(index, self._classes)
        return self._order(turn)[place]

    def _order_of(self, turn: int) -> list[int]:
        # Sorted by hash, not shuffled: no library's generator of random numbers decides what a dataset holds.
        return sorted(range(self._classes), key=lambda number: (self._key(turn, number), number))

    def _key(self, turn: int, number: int) -> bytes:
        return hashlib.blake2b(f"{self._generator}\n{turn}\n{number}".encode(), digest_size=8).digest()
