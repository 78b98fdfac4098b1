"""Components that several generators share stay loaded: keyed by content, so a renamed copy is recognised too.

Half of a hub's pipelines carry the same text encoder and VAE. Two pipelines get one object when class, dtype, device,
config and every weight byte agree.
"""

from collections import OrderedDict
from collections.abc import Callable

from torch import nn

DEFAULT_BYTES = 8 << 30


class ComponentStore:
    """Holds modules up to `max_bytes` of parameters; beyond that the least recently used are let go.

    Letting go only drops the store's reference: a pipeline that uses the module keeps it.
    """

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._modules: OrderedDict[str, nn.Module] = OrderedDict()

    def fetch(self, key: str, load: Callable[[], nn.Module]) -> nn.Module:
        """Return the module of `key`, loading it when it is not here. What `load` raises passes through."""
        module = self._modules.pop(key, None)
        if module is None:
            module = load()
        self._modules[key] = module
        while self.bytes > self._max_bytes and self.count > 1:
            self._modules.popitem(last=False)
        return module

    @property
    def bytes(self) -> int:
        """Bytes of the held modules' parameters and buffers."""
        return sum(module_bytes(module) for module in self._modules.values())

    def clear(self) -> None:
        """Let everything go."""
        self._modules.clear()

    @property
    def count(self) -> int:
        """How many modules are held."""
        return len(self._modules)


def module_bytes(module: nn.Module) -> int:
    """Bytes of a module's parameters and buffers."""
    tensors = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
