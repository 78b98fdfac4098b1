"""The toy hub's five bad models: what a crawl of the public hub meets, and what a run must say of each."""

from pathlib import Path

from pipeline.demo.toy_model import Builder, ToyModel
from pipeline.demo.toy_unet_pipelines import build_ddpm, build_stable_diffusion

_SLOW_BYTES_PER_SECOND = 10_000
"""A config file takes a fraction of a second, the UNet's megabyte about two minutes."""


def _with_own_weights(build: Builder, number: int) -> Builder:
    """Return `build` with weights of its own, so that no file is already known by its hash from a good model."""

    def build_apart(folder: Path, seed: int) -> None:
        build(folder, seed + 1_000_000 * number)

    return build_apart


def _build_pickled(folder: Path, seed: int) -> None:
    """Write a Stable Diffusion 1.x with its weights as .bin pickles only, as many repos of 2022 have them."""
    import torch
    from safetensors.torch import load_file

    _with_own_weights(build_stable_diffusion, 3)(folder, seed)
    for path in sorted(folder.rglob("*.safetensors")):
        name = "pytorch_model.bin" if path.name == "model.safetensors" else f"{path.stem}.bin"
        torch.save(load_file(path), path.with_name(name))
        path.unlink()


def _build_truncated(folder: Path, seed: int) -> None:
    """Write a Stable Diffusion 1.x whose UNet lacks its second half, as after an upload that was cut off.

    The hub hashes the file as it is, so the download is in order and only loading it fails.
    """
    _with_own_weights(build_stable_diffusion, 4)(folder, seed)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) // 2])


_MODELS = (
    ToyModel(
        repo_id="crayon-labs/toy-diffusion-gated",
        title="Toy Diffusion, on request",
        build=_with_own_weights(build_ddpm, 1),
        license="other",
        downloads=77_000,
        created_at="2024-02-01T09:00:00Z",
        pipeline_class="DDPMPipeline",
        pipeline_tag="unconditional-image-generation",
        steps=6,
        gated="manual",
        catalog_reason="gated",
        row_status=None,
    ),
    ToyModel(
        repo_id="vanished/toy-diffusion-deleted",
        title="Toy Diffusion, deleted",
        build=_with_own_weights(build_ddpm, 2),
        license="mit",
        downloads=44_000,
        created_at="2022-12-01T09:00:00Z",
        pipeline_class="DDPMPipeline",
        pipeline_tag="unconditional-image-generation",
        steps=6,
        behaviour={"missing": True},
        catalog_reason="gone",
        row_status=None,
    ),
    ToyModel(
        repo_id="oldtimer/toy-diffusion-pickled",
        title="Toy Diffusion, pickles only",
        build=_build_pickled,
        license="creativeml-openrail-m",
        downloads=17_000,
        created_at="2022-11-05T09:00:00Z",
        pipeline_class="StableDiffusionPipeline",
        pipeline_tag="text-to-image",
        steps=4,
        guidance_scale=5.0,
        catalog_reason="pickle_only",
        row_status=None,
    ),
    ToyModel(
        repo_id="fumbled/toy-diffusion-truncated",
        title="Toy Diffusion, with half a UNet",
        build=_build_truncated,
        license="creativeml-openrail-m",
        downloads=10_000,
        created_at="2023-05-05T09:00:00Z",
        pipeline_class="StableDiffusionPipeline",
        pipeline_tag="text-to-image",
        steps=4,
        guidance_scale=5.0,
        row_status="load_failed",
    ),
    ToyModel(
        repo_id="faraway/toy-ddpm-slow",
        title="Toy DDPM behind a slow line",
        build=_with_own_weights(build_ddpm, 5),
        license="apache-2.0",
        downloads=60_000,
        created_at="2023-08-08T09:00:00Z",
        pipeline_class="DDPMPipeline",
        pipeline_tag="unconditional-image-generation",
        steps=6,
        behaviour={"bytes_per_second": _SLOW_BYTES_PER_SECOND},
        row_status="timeout",
    ),
)

BAD_MODELS: dict[str, ToyModel] = {model.repo_id: model for model in _MODELS}
"""The bad models by repo id; `catalog_reason` and `row_status` say how each must end."""
