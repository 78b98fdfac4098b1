"""Components that several generators share stay loaded: keyed by content, so a renamed copy is recognised too.

Half of a hub's pipelines carry the same text encoder and VAE, and hundreds of adapters sit on one base. Two pipelines
get one object when class, dtype, device, config and every weight byte agree.

What nobody uses any more stays until somebody needs the room: only the next generator's plan tells how much that is,
and which of the idle modules it takes over. So between two adapters of one base, however large, nothing is let go.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from torch import nn


@dataclass
class _Entry:
    module: nn.Module
    bytes: int
    memory: str
    holders: int = 0
    alone: bool = False


class ComponentStore:
    """Holds modules until `make_room` lets the idle ones go. A module that a lease holds is never let go."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0

    def fetch(self, key: str, load: Callable[[], nn.Module]) -> nn.Module:
        """Return the module of `key`, loading it when it is not here. What `load` raises passes through.

        Nobody holds it then: the caller keeps it by its reference. See `lease` for what must stay findable.
        """
        return self._touch(key, load).module

    def lease(self) -> "Lease":
        """Return a new lease, under which a pipeline holds its modules until it is closed."""
        return Lease(self)

    def make_room(self, idle_bytes: Mapping[str, int], keep: Collection[str] = ()) -> int:
        """Let idle modules go, the least recently used first, until few enough are left; return the bytes let go.

        Args:
            idle_bytes: for each memory (`cpu`, `cuda`, `mps`) what modules that nobody holds may take up in it. One
                that is not named is left alone.
            keep: keys that are about to be leased. They are not let go and do not count: whoever leases them has
                them in its own plan.
        """
        before = self._bytes
        idle = {key: entry for key, entry in self._entries.items() if not entry.holders and key not in keep}
        for memory, limit in idle_bytes.items():
            here = {key: entry for key, entry in idle.items() if entry.memory == memory}
            excess = sum(entry.bytes for entry in here.values()) - limit
            for key, entry in here.items():
                if excess <= 0:
                    break
                del self._entries[key]
                self._bytes -= entry.bytes
                excess -= entry.bytes
        return before - self._bytes

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
            entry = self._entries[key] = _Entry(module, module_bytes(module), _memory(module))
            self._bytes += entry.bytes
        self._entries.move_to_end(key)
        return entry


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
        """Hold nothing any more; the modules stay until `ComponentStore.make_room`. A second call does nothing."""
        held, self._held = self._held, []
        for entry in held:
            entry.holders -= 1
            entry.alone = False


def module_bytes(module: nn.Module) -> int:
    """Bytes of a module's parameters and buffers."""
    tensors = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _memory(module: nn.Module) -> str:
    """Which memory a module lies in: the type of its device. One that is offloaded later goes back to where it was."""
    first = next((tensor for tensors in (module.parameters(), module.buffers()) for tensor in tensors), None)
    return "cpu" if first is None else first.device.type
