"""Tiny real pipelines of every family, built once, and the units and rows that tests make of them."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import CLIPConfig, CLIPImageProcessor, CLIPVisionConfig

from manifests.draws import Draw
from manifests.generator import BasePipeline, GeneratorSpec, SamplingParams
from manifests.unit import UnitSpec
from pipeline.demo import toy_adapter_weights, toy_transformer_pipelines, toy_unet_pipelines
from pipeline.rows import generated_row
from samplers.base import Batch, Sampler
from samplers.component_store import ComponentStore
from samplers.environment import pin_threads, set_deterministic
from samplers.registry import load_sampler
from samplers.unit_drawing import DrawnImage

BUILDERS: dict[str, tuple[Callable[[Path, int], None], str]] = {
    "sd": (toy_unet_pipelines.build_stable_diffusion, "text-to-image"),
    "sd-finetune": (toy_unet_pipelines.build_stable_diffusion_finetune, "text-to-image"),
    "lcm": (toy_unet_pipelines.build_latent_consistency, "text-to-image"),
    "sdxl": (toy_unet_pipelines.build_stable_diffusion_xl, "text-to-image"),
    "pixart": (toy_transformer_pipelines.build_pixart_sigma, "text-to-image"),
    "sd3": (toy_transformer_pipelines.build_stable_diffusion_3, "text-to-image"),
    "dit": (toy_transformer_pipelines.build_dit, "class-conditional"),
    "ddpm": (toy_unet_pipelines.build_ddpm, "unconditional"),
}
PACKAGED: dict[str, tuple[Callable[[Path, int], None], str, dict[str, Any], dict[str, Any]]] = {
    "lora": (toy_adapter_weights.build_lora, "lora", {}, {}),
    "kohya-lora": (toy_adapter_weights.build_kohya_lora, "lora", {}, {"trigger_words": ("toydoodle",)}),
    "lcm-lora": (
        toy_adapter_weights.build_lcm_lora,
        "lora",
        {},
        {"scheduler": "LCMScheduler", "steps": 4, "guidance_scale": 1.0},
    ),
    "no-effect-lora": (toy_adapter_weights.build_no_effect_lora, "lora", {}, {}),
    "mismatched-lora": (toy_adapter_weights.build_mismatched_lora, "lora", {}, {}),
    "unet-only": (toy_adapter_weights.build_unet_only, "component", {"component": "unet"}, {}),
    "single-file": (
        toy_adapter_weights.build_single_file,
        "single-file",
        {"weight_name": toy_adapter_weights.SINGLE_FILE},
        {},
    ),
    "textual-inversion": (
        toy_adapter_weights.build_textual_inversion,
        "textual-inversion",
        {},
        {"trigger_words": (toy_adapter_weights.PLACEHOLDER,)},
    ),
}
"""Builder, packaging, spec fields and sampling parameters of what sits on the base `sd`."""
CLASSES = {207: "golden retriever", 281: "tabby, tabby cat", 999: "toilet tissue"}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Sample as a worker does, and leave the process as it was for other packages' tests."""
    threads, environ = torch.get_num_threads(), dict(os.environ)
    deterministic = torch.are_deterministic_algorithms_enabled()
    pin_threads(1)
    set_deterministic()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    os.environ.clear()
    os.environ.update(environ)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's repo, built on first use. Tests that break one copy it first."""
    root = tmp_path_factory.mktemp("models")

    def folder(family: str) -> Path:
        path = root / family
        if not path.exists():
            BUILDERS[family][0](path, 0)
            if family == "dit":
                index = json.loads((path / "model_index.json").read_text())
                labels = {str(number): label for number, label in CLASSES.items()}
                (path / "model_index.json").write_text(json.dumps(index | {"id2label": labels}))
        return path

    return folder


@pytest.fixture(scope="session")
def spec_of() -> Callable[..., GeneratorSpec]:
    """A family's generator with two steps; keywords are further sampling parameters."""

    def spec(family: str, **params: Any) -> GeneratorSpec:
        return GeneratorSpec(
            name=f"toy--{family}",
            kind=BUILDERS[family][1],
            repo_id=f"toy/{family}",
            revision="0" * 40,
            family=family,
            params=SamplingParams(**{"steps": 2} | params),
        )

    return spec


@pytest.fixture(scope="session")
def load(model_folder: Callable[[str], Path]) -> Callable[[GeneratorSpec], Sampler]:
    """Load a family's generator from scratch, sharing nothing."""

    def loaded(spec: GeneratorSpec) -> Sampler:
        return load_sampler(spec, model_folder(spec.family), dtype="float32", device="cpu", components=ComponentStore())

    return loaded


@pytest.fixture(scope="session")
def sampler_of(
    spec_of: Callable[..., GeneratorSpec], load: Callable[[GeneratorSpec], Sampler]
) -> Callable[[str], Sampler]:
    """A family's sampler with two steps, loaded once for all tests."""
    loaded: dict[str, Sampler] = {}

    def sampler(family: str) -> Sampler:
        if family not in loaded:
            loaded[family] = load(spec_of(family))
        return loaded[family]

    return sampler


@pytest.fixture(scope="session")
def packaged_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a generator that is no whole pipeline, built on first use for the base `sd`."""
    root = tmp_path_factory.mktemp("packaged")

    def folder(name: str) -> Path:
        path = root / name
        if not path.exists():
            path.mkdir()
            PACKAGED[name][0](path, 0)
        return path

    return folder


@pytest.fixture(scope="session")
def packaged_spec() -> Callable[..., GeneratorSpec]:
    """The spec of a generator that is no whole pipeline, with two steps; keywords are further sampling parameters."""

    def spec(name: str, base: str = "sd", **params: Any) -> GeneratorSpec:
        _, packaging, fields, own = PACKAGED[name]
        return GeneratorSpec(
            name=f"toy--{name}",
            kind="text-to-image",
            packaging=packaging,
            repo_id=f"toy/{name}",
            revision="1" * 40,
            family="sd",
            base=BasePipeline(repo_id=f"toy/{base}", revision="0" * 40),
            params=SamplingParams(**{"steps": 2} | own | params),
            **fields,
        )

    return spec


@pytest.fixture(scope="session")
def load_packaged(
    model_folder: Callable[[str], Path], packaged_folder: Callable[[str], Path]
) -> Callable[..., Sampler]:
    """Load a generator that is no whole pipeline; `folder` and `base` (or `base_folder`) replace the built ones."""

    def loaded(
        spec: GeneratorSpec,
        components: ComponentStore | None = None,
        *,
        folder: Path | None = None,
        base: str = "sd",
        base_folder: Path | None = None,
        **options: Any,
    ) -> Sampler:
        return load_sampler(
            spec,
            folder or packaged_folder(spec.name.removeprefix("toy--")),
            dtype="float32",
            device="cpu",
            components=components or ComponentStore(),
            base_folder=base_folder or model_folder(base),
            **options,
        )

    return loaded


@pytest.fixture(scope="session")
def pixels_of(draws_of: Callable[..., tuple[Draw, ...]]) -> Callable[..., list[bytes]]:
    """The pixels of a batch of two draws."""

    def pixels(sampler: Sampler, **options: Any) -> list[bytes]:
        batch = Batch.padded(draws_of(2, **options), 2)
        return [sampled.image.tobytes() for sampled in sampler.sample(batch) if sampled.image is not None]

    return pixels


@pytest.fixture(scope="session")
def fresh_pixels(
    packaged_spec: Callable[..., GeneratorSpec],
    load_packaged: Callable[..., Sampler],
    pixels_of: Callable[..., list[bytes]],
) -> Callable[[str], list[bytes]]:
    """What a generator that is no whole pipeline paints on a base that is loaded for it alone; painted once."""
    painted: dict[str, list[bytes]] = {}

    def pixels(name: str) -> list[bytes]:
        if name not in painted:
            painted[name] = pixels_of(load_packaged(packaged_spec(name)))
        return painted[name]

    return pixels


@pytest.fixture(scope="session")
def draws_of() -> Callable[..., tuple[Draw, ...]]:
    """`count` draws from number `first` on; reserve draws have negative numbers."""

    def draws(count: int, first: int = 0, prompt: str = "a red cat on a table") -> tuple[Draw, ...]:
        return tuple(
            Draw(
                index=index,
                seed=1000 + index,
                prompt_id=f"p{index}",
                prompt=f"{prompt}, picture {index}" if prompt else "",
                prompt_source="caption",
            )
            for index in range(first, first + count)
        )

    return draws


@pytest.fixture(scope="session")
def unit_of(draws_of: Callable[..., tuple[Draw, ...]]) -> Callable[..., UnitSpec]:
    """A unit of `count` targets and `reserve` spare draws."""

    def unit(spec: GeneratorSpec, count: int, *, reserve: int = 0, batch_size: int = 2, **fields: Any) -> UnitSpec:
        spare = tuple(draw.model_copy(update={"index": -draw.index - 1}) for draw in draws_of(reserve, first=500))
        given = {"draws": draws_of(count), "reserve": spare} | fields
        return UnitSpec(generator=spec, first=0, count=count, batch_size=batch_size, cpu_threads=1, **given)

    return unit


@pytest.fixture(scope="session")
def rows_of() -> Callable[..., list[dict[str, Any]]]:
    """The rows that a worker would commit for a drawn unit (the columns that samplers own or read)."""

    def rows(unit: UnitSpec, drawn: Sequence[DrawnImage], sampler: Sampler) -> list[dict[str, Any]]:
        shared = {
            "scheduler": sampler.scheduler_name,
            "negative_prompt": sampler.negative_prompt,
            "call_kwargs": sampler.call_record(unit.batch_size),
        }
        return [
            generated_row(unit, 0, image.draw, batch=image.batch, slot=image.slot, reason=image.reason)
            | shared
            | {name: getattr(image, name) for name in ("sha256", "prompt_sent", "truncated")}
            for image in drawn
        ]

    return rows


@pytest.fixture(scope="session")
def checker_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A tiny safety checker whose 17 concepts share one threshold, and its three special-care concepts another."""

    def folder(threshold: float, special: float = 1.0) -> Path:
        path = tmp_path_factory.mktemp("checker")
        vision = CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=32,
            patch_size=8,
            projection_dim=8,
            initializer_range=0.2,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            model = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision.to_dict(), projection_dim=8))
            torch.nn.init.normal_(model.vision_model.embeddings.patch_embedding.weight, std=0.5)
            torch.nn.init.normal_(model.visual_projection.weight)
            torch.nn.init.normal_(model.concept_embeds)
            torch.nn.init.normal_(model.special_care_embeds)
        torch.nn.init.constant_(model.concept_embeds_weights, threshold)
        torch.nn.init.constant_(model.special_care_embeds_weights, special)
        model.save_pretrained(path)
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(path)
        return path

    return folder
