"""Sampling one loaded model through our engine against a bare diffusers loop that does the same work.

Both sample the same prompts and seeds in the same batches on the same threads, score each image with the same safety
checker and save it as PNG with the same compression. Ours also judges, hashes (SHA-256 and perceptual), checks and
writes rows, and publishes a shard; the loop does none of that. Run: python -m benchmarks.sampling_overhead
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.random_pipelines import SIZES, build_models, draws_of, spec_of
from benchmarks.side_by_side import Ratio, compare, report, seconds
from manifests.unit import UnitSpec
from pipeline.demo.toy_checker import build_checker
from pipeline.quiet import quiet_libraries
from pipeline.rows import generated_row
from samplers.component_store import ComponentStore
from samplers.environment import pin_threads, set_deterministic
from samplers.registry import load_sampler
from samplers.safety_checker import SafetyChecker
from samplers.unit_drawing import draw_unit
from shards.dataset import Dataset
from shards.writer import UnitWriter

BAR = 0.97
_PNG_LEVEL = 4
_COPIED = ("prompt_sent", "truncated", "width", "height", "format", "mode", "sha256", "phash", "nsfw_flag")


def main() -> int:
    """Print the ratio of images a second, ours to the loop's; 1 when it is below the bar."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--images", type=int, default=8)
    arguments.add_argument("--batch", type=int, default=4)
    arguments.add_argument("--pairs", type=int, default=9)
    given = arguments.parse_args()
    pin_threads(1)
    set_deterministic()
    quiet_libraries()
    with tempfile.TemporaryDirectory() as folder:
        ratio = _measure(Path(folder), given.images, given.batch, given.pairs)
    interval = f"{ratio.low:.3f} to {ratio.high:.3f}"
    return report(
        "sampling_overhead", ratio.value, BAR, interval=interval, pairs=ratio.pairs, images=given.images, threads=1
    )


def _measure(root: Path, images: int, batch: int, pairs: int) -> Ratio:
    size = SIZES["small"]
    (model,) = build_models(size, root / "models", 1, torch.float32, "cpu")
    build_checker(root / "checker", 0)
    checker = SafetyChecker.load(root / "checker", "r", "cpu")
    sampler: Any = load_sampler(spec_of(size, 0), model, dtype="float32", device="cpu", components=ComponentStore())
    pipeline = sampler._pipeline
    unit = UnitSpec(
        generator=spec_of(size, 0), first=0, count=images, draws=draws_of(images), batch_size=batch, cpu_threads=1
    )
    (root / "loop").mkdir()
    Dataset.create(root / "dataset", "benchmark", {})

    def ours() -> None:
        call = sampler.call_record(batch)
        with UnitWriter(root / "dataset", root / "spool", unit.unit, unit.generator.name) as writer:
            for drawn in draw_unit(unit, sampler, checker):
                row = generated_row(unit, 0, drawn.draw, batch=drawn.batch, slot=drawn.slot, reason=drawn.reason)
                row |= {name: getattr(drawn, name) for name in _COPIED} | {"call_kwargs": call, "environment": "bench"}
                writer.add(row, drawn.image)
            writer.publish()

    def loop() -> None:
        for start in range(0, images, batch):
            draws = unit.draws[start : start + batch]
            made = pipeline(
                prompt=[draw.prompt for draw in draws],
                num_inference_steps=size.steps,
                guidance_scale=size.guidance_scale,
                width=size.pixels,
                height=size.pixels,
                generator=[torch.Generator("cpu").manual_seed(draw.seed) for draw in draws],
            ).images
            for draw, image in zip(draws, made, strict=True):
                checker.score(image)
                image.save(root / "loop" / f"{draw.index}.png", compress_level=_PNG_LEVEL)

    for warm_up in (ours, loop):
        warm_up()
    return compare(lambda: seconds(ours), lambda: seconds(loop), pairs=pairs)


if __name__ == "__main__":
    sys.exit(main())
