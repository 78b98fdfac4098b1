"""Twenty-four models through one worker, against downloading, loading, sampling and saving each in turn.

The hub answers after 50 ms and sends 50 MB/s to all together. Both sides make the same number of images of every model
with the same pipeline class, steps and threads, and save them as PNG; ours also verifies each file, scores no image
(there is no checker on either side) and writes shards. Each side starts with an empty cache and, before the clock
runs, with one more model, so that starting processes and importing libraries is left out on both.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.side_by_side import compare, report
from benchmarks.small_models import SIZE, build, generators
from crawlers.hub_server.options import HubOptions
from crawlers.hub_server.server import HubServer
from manifests.draws import Draw
from manifests.generator import GeneratorSpec
from manifests.unit import UnitSpec
from pipeline.tasks import Done, Task
from pipeline.worker import Worker
from pipeline.worker_config import WorkerConfig
from shards.dataset import Dataset

PROMPT = "a cup of coffee on a table"


def task(spec: GeneratorSpec, images: int, upcoming: tuple[GeneratorSpec, ...]) -> Task:
    """Return the unit of a generator, one batch."""
    seeds = random.Random(spec.name)
    draws = tuple(
        Draw(index=n, prompt=PROMPT, prompt_id=f"p{n}", prompt_source="template", seed=seeds.getrandbits(63))
        for n in range(images)
    )
    unit = UnitSpec(generator=spec, first=0, count=images, draws=draws, batch_size=images, cpu_threads=1)
    return Task(unit, upcoming=upcoming)


def ours(specs: list[GeneratorSpec], endpoint: str, images: int, told: dict[str, Any]) -> float:
    """Seconds that our worker takes for all but the first model."""
    with _empty_folder() as folder:
        Dataset.create(folder / "dataset", "many-models", {})
        config = WorkerConfig(
            dataset=folder / "dataset",
            spool=folder / "spool",
            endpoint=endpoint,
            token=None,
            cache=folder / "cache",
            download_timeout=600,
            unit_timeout=600,
            cpu_threads=1,
            device="cpu",
        )
        worker = Worker(config)
        waited = loading = sampling = 0.0
        started = 0.0
        for number, spec in enumerate(specs):
            if number == 1:
                started = time.perf_counter()
            # The warm-up model fetches nothing ahead: what is downloaded before the clock runs would be a gift.
            done = worker.run(task(spec, images, tuple(specs[number + 1 : number + 3]) if number else ()))
            if not isinstance(done, Done) or done.receipt is None or done.receipt.counts != {"ok": images}:
                raise RuntimeError(f"{spec.name}: {done}")
            if number:
                waited, loading = waited + done.usage.waited, loading + done.usage.loading
                sampling += done.usage.sampling
        seconds = time.perf_counter() - started
        worker.close()
    told.update(waited=round(waited, 2), loading=round(loading, 2), sampling=round(sampling, 2))
    return seconds


def in_turn(specs: list[GeneratorSpec], endpoint: str, images: int, told: dict[str, Any]) -> float:
    """Seconds that a loop takes which downloads, loads, samples and saves."""
    import torch
    from diffusers import StableDiffusionPipeline
    from huggingface_hub import snapshot_download

    spent = {"download": 0.0, "load": 0.0, "sample": 0.0}
    with _empty_folder() as folder:
        started = 0.0
        for number, spec in enumerate(specs):
            if number == 1:
                started = time.perf_counter()
                spent = dict.fromkeys(spent, 0.0)
            at = time.perf_counter()
            path = snapshot_download(
                spec.repo_id, revision=spec.revision, cache_dir=folder / "cache", endpoint=endpoint, token=False
            )
            at = _spend(spent, "download", at)
            pipeline = StableDiffusionPipeline.from_pretrained(path)
            pipeline.set_progress_bar_config(disable=True)
            at = _spend(spent, "load", at)
            noise = [torch.Generator().manual_seed(seed) for seed in range(images)]
            made = pipeline(
                [PROMPT] * images,
                num_inference_steps=spec.params.steps,
                guidance_scale=7.5,
                width=SIZE,
                height=SIZE,
                generator=noise,
            ).images
            for index, image in enumerate(made):
                image.save(folder / f"{spec.name}-{index}.png")
            _spend(spent, "sample", at)
        seconds = time.perf_counter() - started
    told.update({key: round(value, 2) for key, value in spent.items()})
    return seconds


def _spend(spent: dict[str, float], what: str, since: float) -> float:
    now = time.perf_counter()
    spent[what] += now - since
    return now


@contextmanager
def _empty_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--pairs", type=int, default=9)
    options.add_argument("--models", type=int, default=24)
    options.add_argument("--width", type=int, default=64, help="channels of the UNets' first block")
    options.add_argument("--images", type=int, default=4, help="of each model")
    options.add_argument("--steps", type=int, default=6)
    options.add_argument("--once", action="store_true", help="run each side once and say where its time went")
    chosen = options.parse_args()

    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "hub"
        build(root, chosen.models + 1, chosen.width)
        with HubServer(root, HubOptions(bandwidth=50e6, latency=0.05)) as hub:
            specs = generators(hub.endpoint, chosen.models + 1, chosen.steps)
            megabytes = sum(file.size for file in specs[0].files) / 1e6
            print(f"  {chosen.models} models of {megabytes:.0f} MB")
            of_ours: dict[str, Any] = {}
            of_theirs: dict[str, Any] = {}
            mine = partial(ours, specs, hub.endpoint, chosen.images, of_ours)
            other = partial(in_turn, specs, hub.endpoint, chosen.images, of_theirs)
            if chosen.once:
                print(f"  in turn {other():.2f} s {of_theirs}; ours {mine():.2f} s {of_ours}")
                return 0
            ratio = compare(mine, other, pairs=chosen.pairs)
    return report(
        "many_models",
        ratio.value,
        1.5,
        interval=[ratio.low, ratio.high],
        pairs=ratio.pairs,
        models=chosen.models,
        megabytes_per_model=round(megabytes),
        images_per_model=chosen.images,
        ours_seconds=of_ours,
        in_turn_seconds=of_theirs,
    )


if __name__ == "__main__":
    sys.exit(main())
