"""What the driver costs at scale: 5,000 generators × 403 images through the real stage, with workers that do nothing.

    python -m benchmarks.driver_scale [--generators 50000]

The catalog, the prompt table, the plan, the scheduler, the driver's loop and the commit log are the real ones; only
the workers are not: each answers at once with a valid receipt, its rows file a hard link. What they burn is taken off,
and so is the writing and syncing of commit files, which is the disk's and is reported by itself. Bars: at most 1 ms of
CPU a unit, at most 500 MiB at the peak.

Every part runs in a process of its own, so that the memory of one says nothing of another: the campaign, the same
command on the finished run, and `status`.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

from benchmarks.side_by_side import report

IMAGES = 403
UNIT_IMAGES = 64
PROMPTS = 20_000
WORKERS = 64
CPU_BAR_MS = 1.0
MEMORY_BAR_MIB = 500.0
DURABLE_COMMITS = 300
"""Commits made on a real disk to tell what one costs there."""
_LINKS = 30_000
"""Hard links to one file; file systems allow 65,000 or so."""


class NullExecutor:
    """Workers that answer at once: a published shard without images, and no sampling."""

    def __init__(self, dataset: Path) -> None:
        self._dataset = dataset
        self._answers: deque[Any] = deque()
        self._idle = list(range(WORKERS))
        self._linked = 0
        self._origin = dataset / "origin"
        self.cpu = 0.0

    def start(self) -> None:
        pass

    def idle(self) -> list[int]:
        return list(self._idle)

    def submit(self, worker: int, task: Any, *, fresh: bool) -> None:
        started = time.process_time()
        self._idle.remove(worker)
        self._answers.append((worker, self._answer(task)))
        self.cpu += time.process_time() - started

    def wait(self) -> Any:
        started = time.process_time()
        worker, answer = self._answers.popleft()
        self._idle.append(worker)
        self.cpu += time.process_time() - started
        return worker, answer

    def close(self) -> None:
        pass

    def _answer(self, task: Any) -> Any:
        from pipeline.tasks import Done, Usage
        from shards import layout
        from shards.identifiers import sha256_bytes
        from shards.receipt import FileRecord
        from shards.writer import Receipt

        unit, data = task.work, b"rows of nothing"
        digest = sha256_bytes(data)
        rows = FileRecord(
            name=layout.shard_name(layout.ROWS, unit.generator.name, unit.unit, digest), sha256=digest, bytes=len(data)
        )
        if self._linked % _LINKS == 0:
            self._origin = self._dataset / f"origin-{self._linked}"
            self._origin.write_bytes(data)
        path = self._dataset / rows.name
        path.parent.mkdir(exist_ok=True)
        path.hardlink_to(self._origin)
        self._linked += 1
        flagged = int(unit.unit[:4], 16) % 8
        counts = {"ok": unit.count} | ({"flagged": flagged} if flagged else {})
        reasons = {"none": unit.count} | ({"nsfw": flagged} if flagged else {})
        receipt = Receipt(
            unit=unit.unit,
            generator=unit.generator.name,
            generation=task.generation,
            images=None,
            rows=rows,
            counts=counts,
            reasons=reasons,
        )
        versions = {"torch": "2.15.0", "diffusers": "0.42.1", "transformers": "5.23.0", "pillow": "12.0.0"}
        return Done(task, 60.0, "node-17", receipt, (), "cuda-h100-bf16", versions, "", Usage(1.0, 5.0, 54.0, 10**9, 0))


def prepare(folder: Path, generators: int) -> None:
    """Write run.yaml, the catalog and the prompt table of a run that has sampled nothing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from captioning.prompt_table import append_prompts
    from manifests.catalog import CATALOG_SCHEMA, CatalogRow
    from manifests.prompts import Prompt
    from manifests.yaml_text import dump_yaml

    folder.mkdir(parents=True)
    config = {
        "name": "scale",
        "output": str(folder),
        "sample": {
            "images_per_generator": IMAGES,
            "unit_images": UNIT_IMAGES,
            "checker": {"repo_id": "owner/checker", "revision": "c" * 40},
        },
        "execute": {"workers": WORKERS},
    }
    (folder / "run.yaml").write_text(dump_yaml(config), encoding="utf-8")
    with pq.ParquetWriter(folder / "catalog.parquet", CATALOG_SCHEMA) as writer:
        for start in range(0, generators, 1000):
            records = [
                CatalogRow.model_validate(_model(number)).to_record()
                for number in range(start, min(start + 1000, generators))
            ]
            writer.write_table(pa.Table.from_pylist(records, schema=CATALOG_SCHEMA))
    append_prompts(
        folder / "prompts.parquet",
        (
            Prompt(
                prompt_id=f"{number:032x}",
                prompt=f"a photograph, number {number}, of a street in the rain with a dog and two people under a tree",
                prompt_source="caption",
                real_source="photos",
                source_image_id=f"{number:032x}",
                photograph=f"{number:032x}",
                split="test" if number % 5 == 0 else "train",
            )
            for number in range(PROMPTS)
        ),
    )


def _model(number: int) -> dict[str, Any]:
    """A catalog row with as many weight files as a common latent-diffusion pipeline has."""
    parts = ("text_encoder", "text_encoder_2", "unet", "vae")
    files = [
        {"path": f"{part}/model-{shard}.safetensors", "size": 10**9, "sha256": f"{number * 8 + shard:064x}"}
        for part in parts
        for shard in range(2)
    ]
    return {
        "snapshot": "2026-01-01",
        "rank": number + 1,
        "repo_id": f"owner{number % 997}/model-{number}",
        "generator": f"owner{number % 997}--model-{number}",
        "revision": f"{number:040x}",
        "eligible": True,
        "reason": "ok",
        "kind": "text-to-image",
        "pipeline_class": "StableDiffusionXLPipeline",
        "architecture": "LatentDiff",
        "family": f"family-{number % 30}",
        "lineage": f"base/{number // 20}",
        "params": {"steps": 30, "guidance_scale": 5.0, "width": 1024, "height": 1024, "sources": {"steps": "family"}},
        "files": files,
    }


def campaign(folder: Path) -> dict[str, float]:
    """Sample everything that is missing, and say what it took; on a finished run that is the cost of a restart."""
    started_cpu, started = time.process_time(), time.perf_counter()
    from manifests.strict_yaml import load_model
    from pipeline.config import RunConfig
    from pipeline.context import open_run
    from pipeline.stages.sample import sample
    from shards import commits, storage

    imported_cpu = time.process_time()
    imported = time.perf_counter()
    io = {"cpu": 0.0, "wall": 0.0}
    create = storage.create

    def timed(path: Path, data: bytes) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        create(path, data)
        io["cpu"] += time.process_time() - cpu
        io["wall"] += time.perf_counter() - wall

    commits.storage.create = timed
    with open_run(load_model(folder / "run.yaml", RunConfig, ())) as context:
        executor = NullExecutor(context.folder.dataset)
        context._executor = executor
        outcome = sample(context)
        units = outcome.units
    return {
        "units": units,
        "import_s": imported - started,
        "wall_s": time.perf_counter() - imported,
        "cpu_s": time.process_time() - imported_cpu - executor.cpu - io["cpu"],
        "import_cpu_s": imported_cpu - started_cpu,
        "commit_io_cpu_s": io["cpu"],
        "commit_io_s": io["wall"],
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def status(folder: Path) -> dict[str, float]:
    """Time what `commforge status` does."""
    started = time.perf_counter()
    from pipeline.run_status import run_status

    imported = time.perf_counter()
    found = run_status(folder)
    return {
        "generators": len(found["generators"]),
        "import_s": imported - started,
        "wall_s": time.perf_counter() - imported,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def durable_commit_ms(folder: Path) -> float:
    """Milliseconds that one commit's write, two syncs and link take on the disk of `folder`."""
    from shards import storage

    storage.make_folder(folder)
    started = time.perf_counter()
    for number in range(DURABLE_COMMITS):
        storage.create(folder / f"{number}.json", b"x" * 1200)
    return (time.perf_counter() - started) / DURABLE_COMMITS * 1000


def _in_a_process(part: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.driver_scale", "--part", part, "--folder", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"  {part}: {found}", file=sys.stderr)
    return found


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--generators", type=int, default=5000)
    arguments.add_argument("--part", choices=["campaign", "status"], help=argparse.SUPPRESS)
    arguments.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.part:
        print(json.dumps({"campaign": campaign, "status": status}[given.part](given.folder)))
        return 0
    in_memory = Path("/dev/shm") if Path("/dev/shm").is_dir() else None  # the disk's part is measured by itself
    with tempfile.TemporaryDirectory(dir=in_memory) as temporary, tempfile.TemporaryDirectory() as disk:
        folder = Path(temporary) / "run"
        prepare(folder, given.generators)
        first = _in_a_process("campaign", folder)
        again = _in_a_process("campaign", folder)
        seen = _in_a_process("status", folder)
        durable = durable_commit_ms(Path(disk) / "commits")
    units = first["units"]
    facts = {
        "generators": given.generators,
        "units": units,
        "peak MiB": round(first["peak_mib"]),
        "restart on the finished run, s": round(again["wall_s"], 2),
        "restart peak MiB": round(again["peak_mib"]),
        "status, s": round(seen["wall_s"], 2),
        "status peak MiB": round(seen["peak_mib"]),
        "imports, s": round(first["import_s"], 2),
        "commit, ms of CPU a unit": round(first["commit_io_cpu_s"] / units * 1000, 3),
        "commit on this disk, ms a unit": round(durable, 2),
        "restart, s of CPU": round(again["cpu_s"], 2),
        "others' load while it ran": f"{os.getloadavg()[1]:.1f} on {os.cpu_count()} cores",
    }
    suffix = "" if given.generators == 5000 else f"_{given.generators}"
    slow = report(f"driver_cpu{suffix}", first["cpu_s"] / units * 1000, CPU_BAR_MS, at_least=False, unit=" ms", **facts)
    large = report(f"driver_memory{suffix}", first["peak_mib"], MEMORY_BAR_MIB, at_least=False, unit=" MiB", **facts)
    return slow or large


if __name__ == "__main__":
    sys.exit(main())
