"""Sampling on a GPU at the published sizes, with random weights and without Ray.

    python -m benchmarks.gpu_sampling --size sd15        SD 1.5: 512 x 512, float16
    python -m benchmarks.gpu_sampling --size sdxl        SDXL: 1024 x 1024, float16, VAE in float32
    python -m benchmarks.gpu_sampling --size toy --device cpu    tries the script on a machine without a GPU

Reports, the last two without a bar:

    gpu_sampling_SIZE    images a second through our engine (guards, PNG, hashes), to plain diffusers with PNG save;
                         _compiled: the same of a compiled denoiser
    first_image_SIZE_*   seconds to the first images of the second or third model of a family, the slower one: eager;
                         reused: compiled code is handed on from the first; anew: each is compiled by itself
    device_idle_SIZE     share of the time in which nothing is sampled while three models follow each other
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from benchmarks.random_pipelines import SIZES, Size, build_models, draws_of, spec_of
from benchmarks.side_by_side import compare, report, seconds
from manifests.generator import Dtype
from manifests.unit import UnitSpec
from pipeline.quiet import quiet_libraries
from samplers.compiled_denoisers import release_compiled
from samplers.component_store import ComponentStore
from samplers.environment import current_environment, pin_threads, resolve_device, set_deterministic
from samplers.placement import Placement
from samplers.precision import automatic_dtype
from samplers.registry import load_sampler
from samplers.unit_drawing import draw_unit

BAR = 0.97
_PNG_LEVEL = 4
_MODELS = 3


class Bench:
    """Three models of one family on disk, and how they are loaded and sampled."""

    def __init__(self, name: str, root: Path, device: str, batch: int, steps: int | None) -> None:
        self.size: Size = SIZES[name]
        self.root, self.device, self.batch = root, device, batch
        self.steps = steps or self.size.steps
        self.dtype: Dtype = automatic_dtype(self.size.family, 0 if device == "cpu" else 1)
        self.folders = build_models(self.size, root / "models", _MODELS, getattr(torch, self.dtype), device)
        self.components = ComponentStore()
        (root / "images").mkdir()

    def load(self, number: int, compiled: bool) -> Any:
        """Load model `number` as a worker does."""
        spec = spec_of(self.size, number, self.steps)
        place = Placement(self.device, compile=compiled)
        return load_sampler(
            spec,
            self.folders[number],
            dtype=self.dtype,
            device=self.device,
            components=self.components,
            placement=place,
        )

    def draw(self, sampler: Any, number: int, images: int) -> None:
        """Make `images` images with our engine and write them."""
        unit = UnitSpec(
            generator=spec_of(self.size, number, self.steps),
            first=0,
            count=images,
            draws=draws_of(images),
            batch_size=self.batch,
            cpu_threads=1,
            dtype=self.dtype,
        )
        for drawn in draw_unit(unit, sampler, None):
            if drawn.image is not None:
                (self.root / "images" / f"{drawn.draw.index}.png").write_bytes(drawn.image)

    def loop(self, pipeline: Any, images: int) -> None:
        """Make the same images in a bare diffusers loop."""
        draws = draws_of(images)
        for start in range(0, images, self.batch):
            batch = draws[start : start + self.batch]
            made = pipeline(
                prompt=[draw.prompt for draw in batch],
                num_inference_steps=self.steps,
                guidance_scale=self.size.guidance_scale,
                width=self.size.pixels,
                height=self.size.pixels,
                generator=[torch.Generator("cpu").manual_seed(draw.seed) for draw in batch],
            ).images
            for draw, image in zip(batch, made, strict=True):
                image.save(self.root / "images" / f"{draw.index}.png", compress_level=_PNG_LEVEL)


def main() -> int:
    """Run all measurements; 1 when a ratio to plain diffusers is below the bar."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--size", choices=sorted(SIZES), default="sd15")
    arguments.add_argument("--device", default="auto")
    arguments.add_argument("--batch", type=int, default=None, help="default: 8 at 512 pixels and less, else 4")
    arguments.add_argument("--images", type=int, default=None, help="of one measurement; default: two batches")
    arguments.add_argument("--steps", type=int, default=None, help="default: the family's")
    arguments.add_argument("--eager-only", action="store_true", help="measure nothing that compiles")
    arguments.add_argument("--pairs", type=int, default=9)
    given = arguments.parse_args()
    pin_threads(1)
    set_deterministic()
    quiet_libraries()
    size, device = SIZES[given.size], resolve_device(given.device)
    batch = given.batch or (8 if size.pixels <= 512 else 4)
    images = given.images or 2 * batch
    status = 0
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(given.size, Path(folder), device, batch, given.steps)
        facts = {"dtype": bench.dtype, "batch": batch, "steps": bench.steps, "images": images}
        for compiled in (False,) if given.eager_only else (False, True):
            where = {**facts, "environment": current_environment(device, bench.dtype, compiled=compiled).id}
            status |= _throughput(bench, given.size, images, compiled, given.pairs, where)
        if not given.eager_only:
            _first_images(bench, given.size)
        _idle(bench, given.size, images, facts)
    return status


def _throughput(bench: Bench, name: str, images: int, compiled: bool, pairs: int, facts: dict[str, Any]) -> int:
    sampler = bench.load(0, compiled)
    pipeline = sampler._pipeline

    def ours() -> None:
        bench.draw(sampler, 0, images)

    def theirs() -> None:
        bench.loop(pipeline, images)

    for warm_up in (ours, theirs):
        warm_up()
    print(f"  {'compiled' if compiled else 'eager'}: {images / seconds(ours):.3f} images/s", file=sys.stderr)
    ratio = compare(lambda: seconds(ours), lambda: seconds(theirs), pairs=pairs)
    sampler.close()
    interval = f"{ratio.low:.3f} to {ratio.high:.3f}"
    return report(
        f"gpu_sampling_{name}" + ("_compiled" if compiled else ""), ratio.value, BAR, interval=interval, **facts
    )


def _first_images(bench: Bench, name: str) -> None:
    """Report how long each of three models takes from files to its first batch."""
    for label, compiled, forget in (("eager", False, False), ("reused", True, False), ("anew", True, True)):
        release_compiled()
        torch.compiler.reset()
        taken = []
        for number in range(_MODELS):
            if forget:
                release_compiled()
                torch.compiler.reset()
            taken.append(seconds(_first(bench, number, compiled)))
        each = {f"model {number}, s": round(value, 2) for number, value in enumerate(taken, start=1)}
        own = {"dtype": bench.dtype, "batch": bench.batch, "steps": bench.steps}
        report(f"first_image_{name}_{label}", max(taken[1:]), None, at_least=False, unit=" s", **own, **each)


def _first(bench: Bench, number: int, compiled: bool) -> Callable[[], None]:
    def load_and_draw() -> None:
        sampler = bench.load(number, compiled)
        bench.draw(sampler, number, bench.batch)
        sampler.close()

    return load_and_draw


def _idle(bench: Bench, name: str, images: int, facts: dict[str, Any]) -> None:
    """Report the share of the time that three models take, one after the other, in which nothing is sampled."""
    seconds(_first(bench, 0, False))  # warm up
    busy = 0.0
    started = perf_counter()
    for number in range(_MODELS):
        sampler = bench.load(number, False)
        drawing = perf_counter()
        bench.draw(sampler, number, images)
        busy += perf_counter() - drawing
        sampler.close()
    whole = perf_counter() - started
    report(
        f"device_idle_{name}", 1 - busy / whole, None, at_least=False, models=_MODELS, seconds=round(whole, 1), **facts
    )


if __name__ == "__main__":
    sys.exit(main())
