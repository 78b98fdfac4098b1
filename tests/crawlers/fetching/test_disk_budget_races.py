"""Several processes, one budget: fetching, using, letting go and being killed, with somebody measuring all the time."""

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from fetching import hub_revision

from crawlers.fetching.file_locks import cache_locks, locked
from crawlers.hub_server.server import HubServer

MODELS, WORKERS, FETCHES = 8, 3, 6
UNET_BYTES, SHARED_BYTES = 60_000, 20_000
BUDGET = 330_000
"""Three models in use at once, and half of another."""

WORKER = """
import hashlib, json, random, sys, time
from pathlib import Path
from crawlers.fetching.model_cache import ModelCache
from manifests.generator import GeneratorSpec

seed, fetches, budget = map(int, sys.argv[1:4])
endpoint, cache = sys.argv[4], Path(sys.argv[5])
revisions, digests = json.loads(sys.argv[6])
specs = [GeneratorSpec(name="g", kind="text-to-image", repo_id=r, revision=v) for r, v in revisions.items()]
choose = random.Random(seed)

def check(held, spec):
    for path, digest in digests[spec.repo_id].items():
        assert hashlib.sha256((held.folder / path).read_bytes()).hexdigest() == digest, (spec.repo_id, path)

with ModelCache(endpoint=endpoint, cache_dir=cache, token=None, timeout_seconds=90, disk_budget=budget) as models:
    upcoming = [choose.choice(specs) for _ in range(fetches)]
    held = None
    for number, spec in enumerate(upcoming):
        before, held = held, None
        held = models.fetch(spec, make_room=before.release if before else None)
        if before:
            before.release()
        check(held, spec)
        models.prefetch(upcoming[number + 1 :][:1])
        time.sleep(choose.uniform(0, 0.5))
        check(held, spec)
        print(spec.repo_id, flush=True)
"""


class Watcher:
    """Measures the cache again and again.

    It takes the budget's lock, so that nothing is removed while it counts: what is removed before it is looked at,
    and what has taken its place, would otherwise both be in one sum.
    """

    def __init__(self, cache: Path) -> None:
        self.sizes: list[int] = []
        self._cache, self._done = cache, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            with locked(cache_locks(self._cache) / "budget.lock"):
                self.sizes.append(disk_usage(self._cache))

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def disk_usage(root: Path) -> int:
    inodes = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            with contextlib.suppress(FileNotFoundError):
                if not path.is_symlink():
                    stat = path.lstat()
                    inodes[stat.st_dev, stat.st_ino] = stat.st_size
    return sum(inodes.values())


def build(hub_folder: Any) -> dict[str, dict[str, str]]:
    """Eight models; two and two share a text encoder. Returns repo to path to sha256."""
    made = random.Random(1)
    shared = [made.randbytes(SHARED_BYTES) for _ in range(MODELS // 2)]
    digests = {}
    for number in range(MODELS):
        files = {"text_encoder/model.safetensors": shared[number // 2]}
        folder = hub_folder.sd(f"a/m{number}", unet=made.randbytes(UNET_BYTES), files=files, drop=("safety",))
        taken = [path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors", ".txt")]
        digests[f"a/m{number}"] = {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in taken
        }
    return digests


@contextmanager
def workers(hub: HubServer, cache: Path, digests: dict[str, Any], seeds: range) -> Iterator[list[Any]]:
    told = json.dumps([{repo: hub_revision(hub, repo) for repo in digests}, digests])
    given = [str(FETCHES), str(BUDGET), hub.endpoint, str(cache), told]
    running = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(seed), *given], stdout=subprocess.PIPE, text=True)
        for seed in seeds
    ]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def test_workers_that_share_a_cache_never_outgrow_it(hub_folder: Any, tmp_path: Path) -> None:
    digests = build(hub_folder)
    cache = tmp_path / "cache"
    cache.mkdir()
    with (
        HubServer(hub_folder.root) as hub,
        Watcher(cache) as watcher,
        workers(hub, cache, digests, range(WORKERS)) as running,
    ):
        said = [process.communicate(timeout=200)[0].split() for process in running]
        assert [process.returncode for process in running] == [0] * WORKERS
        assert [len(fetched) for fetched in said] == [FETCHES] * WORKERS
    assert max(watcher.sizes) <= BUDGET
    assert max(watcher.sizes) > BUDGET * 0.6, "or the budget was never put to the test"
    assert disk_usage(cache) <= BUDGET


def test_kills_leave_nothing_behind_that_counts(hub_folder: Any, tmp_path: Path) -> None:
    """Workers and download processes die at any moment; the survivors and their successors still get everything."""
    digests = build(hub_folder)
    cache = tmp_path / "cache"
    cache.mkdir()
    chance = random.Random(7)
    with HubServer(hub_folder.root) as hub, Watcher(cache) as watcher:
        for round_ in range(2):
            with workers(hub, cache, digests, range(round_ * 10, round_ * 10 + WORKERS)) as running:
                time.sleep(chance.uniform(2, 5))
                for process in running:
                    for child in psutil.Process(process.pid).children()[:1]:
                        with contextlib.suppress(psutil.NoSuchProcess):
                            child.send_signal(signal.SIGKILL)
                time.sleep(chance.uniform(0, 1))
                for process in running:
                    process.send_signal(signal.SIGKILL)
        with workers(hub, cache, digests, range(100, 101)) as running:
            said = running[0].communicate(timeout=200)[0].split()
            assert running[0].returncode == 0 and len(said) == FETCHES
    assert max(watcher.sizes) <= BUDGET
    assert list((cache_locks(cache) / "reservations").iterdir()) == []
