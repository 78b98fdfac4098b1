"""The base of many adapters is loaded once, however large, and given up for a generator that needs its room.

The toy pipelines' networks are small; what they are said to weigh, on the disk and in memory, is what those of FLUX.1
and SDXL do. The worker has 48 GiB.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn

from crawlers.fetching.model_cache import ModelCache
from manifests.draws import Draw
from manifests.generator import BasePipeline, GeneratorSpec, SamplingParams, WeightFile
from manifests.unit import UnitSpec
from pipeline import loaded_generator
from pipeline.demo import toy_adapter_weights, toy_unet_pipelines
from pipeline.loaded_generator import LoadedGenerator
from pipeline.memory_plan import activation_bytes, model_bytes
from pipeline.worker_config import WorkerConfig
from samplers import component_store, module_loading
from samplers.base import Batch
from samplers.component_store import ComponentStore
from samplers.device_memory import GIB, usable_bytes
from shards.statuses import Reason, UnitFailure

MEMORY = 48 * GIB
GB = 10**9
FLUX = {"unet": int(23.8 * GB), "text_encoder": int(9.5 * GB), "vae": GB // 6}
"""Bytes in bfloat16; the T5 stands in the text encoder's place."""
SDXL = {"unet": int(5.1 * GB), "text_encoder": int(1.6 * GB), "vae": GB // 6}
LORAS: dict[str, Callable[[Path, int], None]] = {
    "lora": toy_adapter_weights.build_lora,
    "kohya": toy_adapter_weights.build_kohya_lora,
    "lcm": toy_adapter_weights.build_lcm_lora,
}


@dataclass
class Files:
    """What the cache gives out: folders, and whether they were given back."""

    folder: Path
    base: Path | None
    released: bool = False

    def release(self) -> None:
        self.released = True


@dataclass
class Cache:
    """Stands in for the model cache: every repo is a folder of `root`."""

    root: Path
    given: list[Files] = field(default_factory=list)

    def fetch(self, spec: GeneratorSpec, make_room: Callable[[], object]) -> Files:
        base = None if spec.base is None else self.root / spec.base.repo_id
        self.given.append(Files(self.root / spec.repo_id, base))
        return self.given[-1]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repos")
    builders = LORAS | {
        "flux": toy_unet_pipelines.build_stable_diffusion,
        "sdxl": toy_unet_pipelines.build_latent_consistency,
        "large": toy_unet_pipelines.build_stable_diffusion_finetune,
    }
    for name, build in builders.items():
        (root / name).mkdir()
        build(root / name, 0)
    return root


def files_of(sizes: dict[str, int]) -> tuple[WeightFile, ...]:
    return tuple(WeightFile(path=f"{part}/m.safetensors", size=size, dtype="BF16") for part, size in sizes.items())


def unit_of(repo_id: str, sizes: dict[str, int] | None = None, dtype: Any = "bfloat16") -> UnitSpec:
    """A unit of a pipeline with weights of these sizes, or of a LoRA on FLUX.

    Toys are sampled to see whether a LoRA changes anything, and the CPU can, in bfloat16 too.
    """
    lora = repo_id in LORAS
    generator = GeneratorSpec(
        name=repo_id,
        kind="text-to-image",
        packaging="lora" if lora else "pipeline",
        repo_id=repo_id,
        family="flux1-dev",
        params=SamplingParams(steps=1, width=64, height=64),
        files=() if lora else files_of(sizes or {}),
        base=BasePipeline(repo_id="flux", files=files_of(FLUX)) if lora else None,
    )
    draw = Draw(index=0, seed=1, prompt_id="p", prompt="a cat", prompt_source="caption")
    return UnitSpec(generator=generator, first=0, count=1, draws=(draw,), batch_size=1, cpu_threads=1, dtype=dtype)


@dataclass
class Watched:
    """The generator of one worker, and how often which component was loaded from which repo."""

    loaded: LoadedGenerator
    cache: Cache
    loads: Counter[str]

    def sample(self, repo_id: str, sizes: dict[str, int] | None = None) -> Any:
        return self.loaded.sampler(unit_of(repo_id, sizes), lambda: None)

    def idle_bytes(self) -> int:
        return sum(entry.bytes for entry in self.loaded.components._entries.values() if not entry.holders)


def _config(folder: Path) -> WorkerConfig:
    return WorkerConfig(
        dataset=folder,
        spool=folder,
        endpoint="",
        token=None,
        cache=None,
        download_timeout=1,
        unit_timeout=1,
        cpu_threads=1,
        device="cpu",
        worker_memory=MEMORY,
    )


@pytest.fixture
def worker(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    loads: Counter[str] = Counter()
    weights: dict[int, int] = {}
    load = module_loading.load_module

    def watched(component: Any, *rest: Any) -> nn.Module:
        module = load(component, *rest)
        repo = component.folder.parent.name
        loads[f"{repo}/{component.name}"] += 1
        weights[id(module)] = (SDXL if repo == "sdxl" else FLUX)[component.name]
        kept.append(module)  # a number of an object that is gone may be another's
        return module

    kept: list[nn.Module] = []
    monkeypatch.setattr(module_loading, "load_module", watched)
    monkeypatch.setattr(component_store, "module_bytes", lambda module: weights[id(module)])
    monkeypatch.setattr("samplers.device_memory.main_memory", lambda: 8 * MEMORY)
    threads = torch.get_num_threads()
    cache = Cache(root)
    loaded = LoadedGenerator(_config(tmp_path), cast(ModelCache, cache), "cpu")
    yield Watched(loaded, cache, loads)
    loaded.let_go()
    assert all(files.released for files in cache.given)
    torch.set_num_threads(threads)


FLUX_LOADED_ONCE = {"flux/unet": 1, "flux/text_encoder": 1, "flux/vae": 1}


def test_the_base_of_many_loras_is_loaded_once(worker: Watched) -> None:
    assert model_bytes(unit_of("lora").generator, "bfloat16") == sum(FLUX.values()) > 33 * GB
    modules = set()
    for name in ("lora", "kohya", "lcm", "lora", "kohya"):
        modules.add(id(worker.sample(name)._pipeline.unet))
    assert worker.loads == FLUX_LOADED_ONCE
    assert len(modules) == 1


def test_a_generator_that_fits_beside_the_base_leaves_it_there(worker: Watched) -> None:
    worker.sample("lora")
    worker.sample("sdxl", SDXL)  # 33.5 and 6.9 GB, of 46.3 that are planned with
    worker.sample("kohya")
    assert worker.loads == FLUX_LOADED_ONCE | {"sdxl/unet": 1, "sdxl/text_encoder": 1, "sdxl/vae": 1}


def test_a_generator_that_needs_the_room_gets_it(worker: Watched) -> None:
    sizes = {"unet": 30 * GB, "text_encoder": 2 * GB}
    worker.sample("lora")
    needed = model_bytes(unit_of("large", sizes).generator, "bfloat16")
    worker.sample("sdxl", sizes)
    planned = needed + activation_bytes(unit_of("sdxl", sizes).generator, "bfloat16", 1)
    assert planned + worker.idle_bytes() <= usable_bytes(MEMORY)
    assert worker.idle_bytes() == FLUX["vae"]  # the UNet went, and the T5; what fits stays
    worker.sample("kohya")
    assert worker.loads["flux/unet"] == worker.loads["flux/text_encoder"] == 2


def test_what_the_next_generator_shares_is_kept_while_the_rest_makes_room(worker: Watched) -> None:
    """A finetune of the base: it takes text encoder and VAE over, and brings a UNet that fills what is left."""
    worker.sample("lora")
    worker.sample("large", FLUX | {"unet": 35 * GB})
    assert worker.loads == FLUX_LOADED_ONCE | {"large/unet": 1}
    assert worker.idle_bytes() == 0


def test_a_call_that_ran_out_of_memory_leaves_nothing(worker: Watched) -> None:
    worker.sample("lora")
    worker.loaded.forget(UnitFailure(Reason.host_oom, "full"))
    assert worker.loaded.components.count == 0
    assert isinstance(worker.loaded.components, ComponentStore)
    worker.sample("lora")
    assert set(worker.loads.values()) == {2}


@pytest.mark.parametrize("reason", [Reason.corrupt_weights, Reason.call_signature, Reason.no_keys_loaded])
def test_a_generator_that_is_broken_itself_costs_the_others_nothing(worker: Watched, reason: Reason) -> None:
    worker.sample("lora")
    worker.loaded.forget(UnitFailure(reason, "no model"))
    worker.sample("kohya")
    assert worker.loads == FLUX_LOADED_ONCE


def test_a_decoding_that_failed_once_fails_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SDXL's VAE decodes in float32 and is cast back afterwards: but not when the decoding raised, whatever it was."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        toy_unet_pipelines.build_stable_diffusion_xl(tmp_path / name, 0)
        file = tmp_path / name / "vae" / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"force_upcast": True}))
    loaded = LoadedGenerator(_config(tmp_path), cast(ModelCache, Cache(tmp_path)), "cpu")
    units = {name: unit_of(name, dtype="float16") for name in ("first", "second")}

    def sampled(name: str) -> Any:
        sampler: Any = loaded.sampler(units[name], lambda: None)
        (image,) = sampler.sample(Batch.padded(units[name].draws, 1))
        return sampler._pipeline.vae, image.raw_issue

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR")

    vae, issue = sampled("first")
    assert (vae.dtype, issue) == (torch.float16, None)
    with monkeypatch.context() as once, pytest.raises(UnitFailure) as failure:
        once.setattr(type(vae.decoder), "forward", broken)
        sampled("first")
    assert failure.value.reason is Reason.sampling_error
    assert vae.dtype is torch.float32, "nothing was left half-way, so this test shows nothing"
    loaded.forget(failure.value)
    for name in ("second", "first"):
        vae, issue = sampled(name)
        assert (vae.dtype, issue) == (torch.float16, None)
    loaded.let_go()


def test_the_same_generator_is_not_loaded_again(worker: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    first = worker.sample("lora")
    monkeypatch.setattr(loaded_generator, "load_sampler", lambda *_, **__: pytest.fail("it is loaded"))
    assert worker.sample("lora") is first
