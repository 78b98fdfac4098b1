"""Workers that do nothing: what is left when a campaign has run with them is the driver's own cost."""

import time
from collections import deque
from pathlib import Path
from typing import Any

_LINKS = 30_000
"""Hard links to one file; file systems allow 65,000 or so."""


class NullExecutor:
    """Workers that answer at once: a published shard without images, and no sampling.

    `cpu` counts the seconds of CPU time that went into the answers.
    """

    def __init__(self, dataset: Path, workers: int) -> None:
        self._dataset = dataset
        self._answers: deque[Any] = deque()
        self._workers = range(workers)
        self._idle = list(self._workers)
        self._linked = 0
        self._origin = dataset / "origin"
        self.cpu = 0.0

    def start(self) -> None:
        pass

    def idle(self) -> list[int]:
        return list(self._idle)

    def up(self) -> set[int]:
        return set(self._workers)

    def submit(self, worker: int, task: Any, *, fresh: bool) -> None:
        started = time.process_time()
        self._idle.remove(worker)
        self._answers.append((worker, self._answer(task)))
        self.cpu += time.process_time() - started

    def starting(self) -> bool:
        return False

    def wait(self, timeout: float | None = None) -> Any:
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
