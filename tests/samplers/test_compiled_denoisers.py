"""The next model of a make gets the last one's compiled code, its own weights, and a fresh compile's images."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers import ConfigMixin, DDPMPipeline, DDPMScheduler, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import nn
from torch._dynamo.utils import counters

from samplers import compiled_denoisers
from samplers.compiled_denoisers import DENOISERS, adopt_compiled, copy_tensors, release_compiled
from samplers.placement import Placement, place


class _Denoiser(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """As small as a denoiser can be: what a C++ compiler makes of a real one takes minutes."""

    @register_to_config
    def __init__(self, sample_size: int = 8, in_channels: int = 3, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.mix = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.norm = nn.GroupNorm(1, in_channels, eps=epsilon)
        self.register_buffer("waves", torch.ones(3), persistent=False)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> UNet2DOutput:
        phase = torch.sin(timestep * 0.01) + self.waves.view(1, 3, 1, 1)
        return UNet2DOutput(sample=nn.functional.silu(self.norm(self.mix(sample) * phase)))


def _load(seed: int, **config: Any) -> Any:
    """Return a pipeline around a denoiser whose weights and unsaved buffer follow from `seed`."""
    unet = _Denoiser(**config).eval().requires_grad_(False)
    random = torch.Generator().manual_seed(seed)
    for tensor in (*unet.parameters(), *unet.buffers()):
        tensor.copy_(torch.randn(tensor.shape, generator=random))
    pipeline: Any = DDPMPipeline(unet, DDPMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    release_compiled()
    yield
    release_compiled()
    torch.compiler.reset()


def _images(pipeline: Any) -> torch.Tensor:
    return torch.as_tensor(pipeline(1, torch.Generator().manual_seed(1), 2, output_type="np").images)


def _graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


def test_the_second_model_compiles_nothing_and_equals_a_fresh_compile() -> None:
    first = _load(1)
    assert place(first, Placement("cpu", compile=True), DENOISERS) == {"offload": "none", "compiled": ["unet"]}
    images = {"first": _images(first)}
    module = first.unet
    compiled = _graphs()
    assert compiled > 0
    del first

    second = _load(2)
    weights = {name: tensor.clone() for name, tensor in second.unet.state_dict().items()}
    place(second, Placement("cpu", compile=True), DENOISERS)
    assert second.unet is module
    assert second.unet.state_dict().keys() == weights.keys()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in second.unet.state_dict().items())
    images["second"] = _images(second)
    assert _graphs() == compiled
    del second

    again = _load(1)
    place(again, Placement("cpu", compile=True), DENOISERS)
    assert torch.equal(_images(again), images["first"]) and _graphs() == compiled
    del again, module
    release_compiled()
    torch.compiler.reset()

    fresh = _load(2)
    place(fresh, Placement("cpu", compile=True), DENOISERS)
    assert torch.equal(_images(fresh), images["second"]) and _graphs() > compiled
    assert not torch.equal(images["first"], images["second"])


def test_a_module_in_use_is_never_taken() -> None:
    first, second = _load(1), _load(2)
    before = {name: tensor.clone() for name, tensor in first.unet.state_dict().items()}
    adopt_compiled(first, "cpu", DENOISERS)
    adopt_compiled(second, "cpu", DENOISERS)
    assert first.unet is not second.unet
    assert all(torch.equal(tensor, before[name]) for name, tensor in first.unet.state_dict().items())


def test_a_user_in_a_reference_cycle_is_gone_all_the_same() -> None:
    first = _load(1)
    adopt_compiled(first, "cpu", DENOISERS)
    module = first.unet
    first.itself = first
    gc.disable()
    try:
        del first
        second = _load(2)
        adopt_compiled(second, "cpu", DENOISERS)
    finally:
        gc.enable()
    assert second.unet is module


def test_another_config_precision_or_device_is_another_make() -> None:
    def module_after(seed: int, dtype: torch.dtype, device: str, **config: Any) -> nn.Module:
        pipeline = _load(seed, **config).to(dtype=dtype)
        adopt_compiled(pipeline, device, DENOISERS)
        unet: nn.Module = pipeline.unet
        return unet

    plain = module_after(1, torch.float32, "cpu")
    assert module_after(2, torch.float32, "cpu") is plain
    assert module_after(3, torch.float32, "cpu", epsilon=1e-3) is not plain
    half = module_after(2, torch.bfloat16, "cpu")
    assert half is not plain and module_after(1, torch.bfloat16, "cpu") is half
    assert module_after(1, torch.bfloat16, "meta") is not half


def test_a_denoiser_that_is_not_named_is_left_alone() -> None:
    """Nothing about a module says whether others have it too; who loaded it knows."""
    pipeline = _load(1)
    assert place(pipeline, Placement("cpu", compile=True))["compiled"] == []
    assert pipeline.unet._compiled_call_impl is None
    assert not compiled_denoisers._kept


def test_nothing_is_kept_while_nothing_is_compiled() -> None:
    adopt_compiled(_load(1), "cpu", DENOISERS)
    assert compiled_denoisers._kept
    place(_load(2), Placement("cpu"))
    assert not compiled_denoisers._kept


class _Odd(nn.Module):
    """A parameter that is tied, a buffer that is not saved, and one that is."""

    def __init__(self, fill: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((2, 2), fill), requires_grad=False)
        self.same = self.weight
        self.register_buffer("saved", torch.full((3,), fill))
        self.register_buffer("unsaved", torch.full((3,), fill), persistent=False)


def test_every_tensor_is_copied_where_it_is() -> None:
    source, target = _Odd(1.0), _Odd(2.0)
    places = [tensor.data_ptr() for tensor in (target.weight, target.saved, target.unsaved)]
    copy_tensors(source, target)
    for name in ("weight", "same", "saved", "unsaved"):
        assert torch.equal(getattr(target, name), getattr(source, name))
    assert [tensor.data_ptr() for tensor in (target.weight, target.saved, target.unsaved)] == places
    assert target.same is target.weight


def test_modules_with_other_tensors_are_refused_untouched() -> None:
    small = _Denoiser()
    before = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    with pytest.raises(ValueError, match="other tensors"):
        copy_tensors(_Odd(1.0), small)
    with pytest.raises(ValueError, match="other tensors"):
        copy_tensors(_Denoiser().half(), small)
    assert all(torch.equal(tensor, before[name]) for name, tensor in small.state_dict().items())
