"""Components that several generators share stay loaded: keyed by content, so a renamed copy is recognised too.

Half of a hub's pipelines carry the same text encoder and VAE, and hundreds of adapters sit on one base. Two pipelines
get one object when class, dtype, device, config and every weight byte agree.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

DEFAULT_BYTES = 8 << 30


@dataclass
class _Entry:
    module: nn.Module
    bytes: int
    holders: int = 0
    alone: bool = False


class ComponentStore:
    """Holds modules up to `max_bytes` of parameters; beyond that the least recently used are let go.

    A module that a lease holds is never let go, so the limit can be exceeded by what is in use.
    """

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0

    def fetch(self, key: str, load: Callable[[], nn.Module]) -> nn.Module:
        """Return the module of `key`, loading it when it is not here. What `load` raises passes through.

        It may be let go at once: the caller keeps it by its reference. See `lease` for what must stay findable.
        """
        return self._touch(key, load).module

    def lease(self) -> "Lease":
        """Return a new lease, under which a pipeline holds its modules until it is closed."""
        return Lease(self)

    @property
    def bytes(self) -> int:
        """Bytes of the held modules' parameters and buffers, as they were when they were loaded."""
        return self._bytes

    def clear(self) -> None:
        """Let everything go, held or not: holders keep their modules, but nobody else gets them."""
        self._entries.clear()
        self._bytes = 0

    @property
    def count(self) -> int:
        """How many modules are held."""
        return len(self._entries)

    def _touch(self, key: str, load: Callable[[], nn.Module]) -> _Entry:
        entry = self._entries.get(key)
        if entry is None:
            module = load()
            entry = self._entries[key] = _Entry(module, module_bytes(module))
            self._bytes += entry.bytes
        self._entries.move_to_end(key)
        self._trim(keep=entry)
        return entry

    def _trim(self, keep: _Entry | None = None) -> None:
        for key, entry in list(self._entries.items()):
            if self._bytes <= self._max_bytes:
                return
            if not entry.holders and entry is not keep:
                del self._entries[key]
                self._bytes -= entry.bytes


class Lease:
    """The modules that one pipeline uses: they stay in the store until `release`."""

    def __init__(self, store: ComponentStore) -> None:
        self._store = store
        self._held: list[_Entry] = []

    def fetch(self, key: str, load: Callable[[], nn.Module], *, alone: bool = False) -> nn.Module:
        """Return the module of `key` and hold it; `alone` when the holder will change it for a while.

        Who holds a module alone shares it with nobody. Where that cannot be had, the answer is a copy of one's own,
        which the store does not know.
        """
        known = self._store._entries.get(key)
        if known is not None and (known.alone or (alone and known.holders)):
            return load()
        entry = self._store._touch(key, load)
        entry.holders += 1
        entry.alone = alone
        self._held.append(entry)
        return entry.module

    def drop(self, module: nn.Module) -> None:
        """Take a module out of the store for good: nobody shall get it again, since it may no longer be what it was."""
        for key, entry in list(self._store._entries.items()):
            if entry.module is module:
                del self._store._entries[key]
                self._store._bytes -= entry.bytes

    def release(self) -> None:
        """Hold nothing any more; what the store has no room for is let go. A second call does nothing."""
        held, self._held = self._held, []
        for entry in held:
            entry.holders -= 1
            entry.alone = False
        self._store._trim()


def module_bytes(module: nn.Module) -> int:
    """Bytes of a module's parameters and buffers."""
    tensors = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
