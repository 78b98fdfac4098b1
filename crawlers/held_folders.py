"""A generator's files on this machine, kept from eviction for as long as somebody works with them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class HeldFolders:
    """Where a generator's files lie; they stay there until `release`, or until this process has ended.

    Also a context manager that releases on leaving.

    Attributes:
        folder: the generator's own repo at its commit.
        base: the repo at its commit that an adapter, component or checkpoint is loaded into; None without one.
    """

    folder: Path
    base: Path | None = None
    _release: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)

    def release(self) -> None:
        """Say that the files may go when room is needed; a second time does nothing."""
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
