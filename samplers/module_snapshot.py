"""A module tree as it was, to be put back exactly after an adapter has been in it.

An unloader that undoes what a loader did must know all that it did: wrapped layers, configs, flags, hooks, a grown
embedding. A snapshot need not know. It remembers every module's attributes and every tensor's memory, and points all of
them back. Weights are not copied, so a snapshot costs milliseconds and no memory. The price is that what was written
into the base's own tensors cannot be undone: some LoRAs bring norms that replace the base's. Torch counts such writes,
so they are noticed, and that module must not be used as the base again.
"""

import copy
from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

_CONTAINERS = frozenset({dict, OrderedDict, defaultdict, list, set})
"""Exactly these: what derives from them, such as diffusers' frozen configs, is an object of its own."""


class ModuleSnapshot:
    """What `roots` and all modules below them are now; `restore` makes them that again, whatever happened since."""

    def __init__(self, roots: Iterable[nn.Module]) -> None:
        self._roots = tuple(roots)
        modules = dict.fromkeys(module for root in self._roots for module in root.modules())
        self._modules = [(module, type(module), _attributes(vars(module))) for module in modules]
        tensors = dict.fromkeys(
            tensor
            for module in modules
            for tensor in (*module._parameters.values(), *module._buffers.values())
            if tensor is not None
        )
        self._tensors = [(tensor, tensor.data, tensor.requires_grad, tensor._version) for tensor in tensors]
        # A transformers config is an object that many modules share and that loaders write to (vocab_size).
        configs = {id(config): config for module in modules if (config := _config(module)) is not None}
        self._configs = [(config, copy.deepcopy(vars(config))) for config in configs.values()]

    @torch.no_grad()
    def restore(self) -> tuple[nn.Module, ...]:
        """Put everything back; return the roots that hold a tensor that was written into, which are not as they were.

        May be called more than once.
        """
        for module, type_, attributes in self._modules:
            module.__class__ = type_
            vars(module).clear()
            vars(module).update(_attributes(attributes))
        written = {tensor for tensor, _, _, version in self._tensors if tensor._version != version}
        for tensor, data, requires_grad, _ in self._tensors:
            tensor.data = data
            tensor.grad = None
            tensor.requires_grad_(requires_grad)
        for config, values in self._configs:
            vars(config).clear()
            vars(config).update(copy.deepcopy(values))
        return tuple(
            root for root in self._roots if any(tensor in written for tensor in (*root.parameters(), *root.buffers()))
        )


def _attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes, their containers copied: a hook or child that is added later must not appear in here."""
    return {name: value.copy() if type(value) in _CONTAINERS else value for name, value in attributes.items()}


def _config(module: nn.Module) -> Any:
    """The module's own mutable config; diffusers' configs are frozen and among the attributes."""
    config = vars(module).get("config")
    return config if hasattr(config, "__dict__") and not isinstance(config, dict) else None
