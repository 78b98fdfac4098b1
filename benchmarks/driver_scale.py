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
from pathlib import Path
from typing import Any

from benchmarks.null_executor import NullExecutor
from benchmarks.scale_run import WORKERS, prepare
from benchmarks.side_by_side import report

CPU_BAR_MS = 1.0
MEMORY_BAR_MIB = 500.0
DURABLE_COMMITS = 300
"""Commits made on a real disk to tell what one costs there."""


def campaign(folder: Path) -> dict[str, float]:
    """Sample everything that is missing, and say what it took; on a finished run that is the cost of a restart."""
    started_cpu, started = time.process_time(), time.perf_counter()
    from manifests.strict_yaml import load_model
    from pipeline.config import RunConfig
    from pipeline.context import open_run
    from pipeline.stages.sample import sample
    from shards import storage

    imported_cpu = time.process_time()
    imported = time.perf_counter()
    io = {"cpu": 0.0, "wall": 0.0}
    create = storage.create

    def timed(path: Path, data: bytes) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        create(path, data)
        io["cpu"] += time.process_time() - cpu
        io["wall"] += time.perf_counter() - wall

    storage.create = timed
    with open_run(load_model(folder / "run.yaml", RunConfig, ())) as context:
        executor = NullExecutor(context.folder.dataset, WORKERS)
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
