"""How soon images come again after `kill -9` of a worker, against the first start of one.

    python -m benchmarks.recovery

One worker process, supervised as on a cluster, samples a toy Stable Diffusion whose files are in the cache already.
From its spawn to its first published batch is one time; it is killed in the middle of a long unit, and from there to
the next published batch is the other. Then the same with a spare that has finished its imports. Only starting is
measured: what a lost unit had done is lost with it in either case, and a real model's loading adds to both sides.
"""

import os
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL

from benchmarks.side_by_side import report, summarise
from crawlers.catalog import eligible_generators
from crawlers.hub_server.server import HubServer
from manifests.prompts import Prompt
from manifests.unit import UnitSpec
from pipeline.config import CrawlConfig, HubConfig, RunConfig
from pipeline.demo.toy_hub import build_toy_hub
from pipeline.plan import GeneratorPlan
from pipeline.run_folder import RunFolder
from pipeline.stages.crawl import crawl
from pipeline.tasks import Died, Done, Outcome, Task
from pipeline.worker_config import WorkerConfig
from pipeline.worker_process import WorkerProcess
from shards.dataset import Dataset

MODEL = "marigold-studio/toy-diffusion-v1-sketches"
ROUNDS = 9
BATCH = 2
LONG_UNIT = 400
"""Images: far more than are made before the kill."""
UNDER_WAY = 1.0
"""Seconds that the long unit runs before the kill."""
RECOVERY_BAR = 1.2
SPARE_BAR = 0.3


def prepare(root: Path, endpoint: str) -> tuple[WorkerConfig, UnitSpec, UnitSpec]:
    """Return a worker's config, a unit of one batch and a long one."""
    config = RunConfig(
        name="recovery",
        output=root / "run",
        hub=HubConfig(endpoint=endpoint, cache=root / "cache"),
        crawl=CrawlConfig(models=(MODEL,)),
    )
    folder = RunFolder.at(root / "run")
    crawl(config, folder)
    (generator,) = eligible_generators(folder.catalog)
    prompt = Prompt(prompt_id="0" * 32, prompt="a lighthouse in the fog", prompt_source="template", split="train")
    sample = config.sample.model_copy(update={"batch_size": BATCH, "reserve_fraction": 0.0})
    plan = GeneratorPlan(generator, "train", ((0, BATCH), (BATCH, BATCH + LONG_UNIT)), [prompt], sample, None)
    short, long = plan.units()
    Dataset.create(folder.dataset, "recovery", {})
    worker = WorkerConfig(
        dataset=folder.dataset,
        spool=root / "spool",
        endpoint=endpoint,
        token=None,
        cache=root / "cache",
        download_timeout=600.0,
        unit_timeout=600.0,
        cpu_threads=1,
        device="cpu",
    )
    return worker, short, long


def first_batch(worker: WorkerProcess, unit: UnitSpec) -> float:
    """Start a worker and return the seconds to its first published batch."""
    started = time.perf_counter()
    worker.start()
    _expect_done(worker.run(Task(unit)))
    return time.perf_counter() - started


def recovery(worker: WorkerProcess, short: UnitSpec, long: UnitSpec) -> float:
    """Kill the worker in the middle of a unit, and return the seconds from there to the next published batch."""
    outcomes: list[Outcome] = []
    busy = threading.Thread(target=lambda: outcomes.append(worker.run(Task(long))))
    busy.start()
    time.sleep(UNDER_WAY)
    if worker.pid is None or not busy.is_alive():
        raise RuntimeError("the long unit ended before the kill")
    started = time.perf_counter()
    os.kill(worker.pid, SIGKILL)
    busy.join()
    _expect_done(worker.run(Task(short)))
    took = time.perf_counter() - started
    if not isinstance(outcomes[0], Died):
        raise RuntimeError(f"the long unit was not killed: {outcomes[0]}")
    return took


def one_round(config: WorkerConfig, short: UnitSpec, long: UnitSpec, number: int) -> tuple[float, float, float]:
    """Return the seconds of a first start, of a recovery, and of a recovery with a spare."""
    worker = WorkerProcess(config, f"plain-{number}")
    try:
        first, second = first_batch(worker, short), recovery(worker, short, long)
    finally:
        worker.stop()
    worker = WorkerProcess(replace(config, spares=1), f"spared-{number}")
    try:
        first_batch(worker, short)
        while worker.ready_spares < 1:
            time.sleep(0.1)
        with_spare = recovery(worker, short, long)
    finally:
        worker.stop()
    print(
        f"  round {number}: first {first:.2f} s, again {second:.2f} s, with a spare {with_spare:.2f} s", file=sys.stderr
    )
    return first, second, with_spare


def _expect_done(outcome: Outcome) -> None:
    if not isinstance(outcome, Done):
        raise RuntimeError(f"the unit did not succeed: {outcome}")


def main() -> int:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        build_toy_hub(root / "hub", models=[MODEL])
        with HubServer(root / "hub") as hub:
            config, short, long = prepare(root, hub.endpoint)
            one_round(config, short, long, 0)  # fills the model cache, and the system's of files
            rounds = [one_round(config, short, long, number) for number in range(1, ROUNDS + 1)]
    first = sorted(first for first, _, _ in rounds)[ROUNDS // 2]
    plain = summarise([again / first for first, again, _ in rounds])
    spared = summarise([with_spare / first for first, _, with_spare in rounds])
    facts = {"first start, s (median)": round(first, 2), "model": MODEL}
    missed = report(
        "recovery_with_spare",
        spared.value,
        SPARE_BAR,
        at_least=False,
        interval=(spared.low, spared.high),
        pairs=spared.pairs,
        **facts,
    )
    missed |= report(
        "recovery",
        plain.value,
        RECOVERY_BAR,
        at_least=False,
        interval=(plain.low, plain.high),
        pairs=plain.pairs,
        **facts,
    )
    return missed


if __name__ == "__main__":
    sys.exit(main())
