"""Random weights: reproducible from a seed and a name, and of a scale at which untrained networks make texture."""

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

_SILU_POWER = 0.356
"""Mean square of SiLU(x) for x ~ N(0, 1): what a last convolution sees after its normalisation."""


@contextmanager
def seeded(seed: int, name: str) -> Iterator[None]:
    """Run the body with torch's CPU generator seeded from (`seed`, `name`); the caller's state is put back after.

    One name per component keeps a component's weights the same whatever was built before it.
    """
    import torch

    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(int.from_bytes(digest) >> 1)
        yield


def scale_convolution(convolution: "nn.Conv2d", output_std: float) -> None:
    """Draw the weights of a network's last convolution so that its outputs have about `output_std`.

    Its input is SiLU(normalised features), whose power is known, so the gain follows from the fan-in alone; with
    the default initialisation a random network's output spans a few grey levels only. Call it inside `seeded`.
    """
    from torch import nn

    fan_in = convolution.in_channels * math.prod(convolution.kernel_size)
    nn.init.normal_(convolution.weight, std=output_std / math.sqrt(fan_in * _SILU_POWER))
    if convolution.bias is not None:
        nn.init.normal_(convolution.bias, std=output_std / 4)


def scale_projection(projection: "nn.Linear", output_std: float) -> None:
    """Draw the weights of a transformer's last projection likewise: its input is normalised, of unit power."""
    from torch import nn

    nn.init.normal_(projection.weight, std=output_std / math.sqrt(projection.in_features))


def emphasise_text(denoiser: "nn.Module", factor: float = 4.0) -> None:
    """Scale what cross-attention adds, so that an untrained denoiser's images depend visibly on the prompt."""
    import torch

    with torch.no_grad():
        for name, module in denoiser.named_modules():
            if name.endswith("attn2"):
                module.get_submodule("to_out.0").weight.mul_(factor)
