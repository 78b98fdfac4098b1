"""Captioning in tasks: photographs are read from the dataset, and finished tasks survive a kill as files."""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from pipeline.config import CaptionerConfig
from pipeline.context import RunContext
from pipeline.driver import drive
from pipeline.hub_outage import HubOutages
from pipeline.hub_token import hub_token
from pipeline.progress import StageProgress, say
from pipeline.scheduler import Scheduler
from pipeline.tasks import CaptionChunk, Died, Done, Failed, StoredImage, Task
from pipeline.work_queue import TaskGroup
from shards import storage
from shards.identifiers import content_hash

CHUNK_IMAGES = 256
"""Photographs in one task: what a kill may lose."""


class CaptionerPass:
    """One pass of a captioner over committed photographs."""

    def __init__(self, context: RunContext, captioner: CaptionerConfig) -> None:
        self._context = context
        self._captioner = captioner
        self._parts: Path = context.folder.root / "captions.parts"

    def run(self, image_ids: Sequence[str], on_given_up: Callable[[Failed | Died], None]) -> dict[str, str]:
        """Return image id → caption for every photograph, captioning those that no part holds.

        Raises:
            Interrupted: Ctrl-C or SIGTERM; finished tasks are kept.
        """
        say(f"caption: captioning {len(image_ids)} photographs with {self._captioner.repo_id}")
        captions: dict[str, str] = {}
        tasks = []
        for chunk in self._chunks(image_ids):
            part = self._parts / f"{chunk.chunk}.json"
            if part.exists():
                captions |= json.loads(part.read_text(encoding="utf-8"))
            else:
                tasks.append(Task(chunk))
        context = self._context
        group = TaskGroup("captioner", "captioner", iter(tasks), len(tasks))
        scheduler = Scheduler([group], context.config.execute.attempts)
        with StageProgress("caption", len(image_ids), "captions") as progress:
            progress.advance(len(captions))

            def on_done(done: Done) -> None:
                chunk = done.task.work
                if not isinstance(chunk, CaptionChunk):
                    raise TypeError(f"{done.task.id} is no captioning task")
                made = dict(zip((image.image_id for image in chunk.images), done.captions, strict=True))
                storage.make_folder(self._parts)
                storage.replace(self._parts / f"{chunk.chunk}.json", json.dumps(made).encode())
                captions.update(made)
                progress.advance(len(made))

            if tasks:
                hub = context.config.hub
                outages = HubOutages(hub.endpoint, hub_token(), hub.patience)
                drive(scheduler, context.executor(), context.events, on_done, on_given_up, outages.outlast)
        return captions

    def forget(self) -> None:
        """Remove the parts: their captions are in the prompt table now."""
        for part in self._parts.glob("*.json"):
            part.unlink()
        if self._parts.exists():
            self._parts.rmdir()

    def _chunks(self, image_ids: Sequence[str]) -> Iterator[CaptionChunk]:
        rows = self._context.dataset.rows(columns=["image_id", "file", "offset", "length"], label=0, status="ok")
        stored = {row["image_id"]: StoredImage(**row) for row in rows.to_pylist()}
        remaining = iter(image_ids)
        while part := tuple(stored[image_id] for image_id in islice(remaining, CHUNK_IMAGES)):
            settings = self._captioner.model_dump(mode="json")
            chunk = content_hash([settings, [image.image_id for image in part]])
            yield CaptionChunk(chunk, part, self._captioner)
