"""The worker: where download, sampler, safety checker and writer meet. Read it and you have understood the product.

A unit comes in, a receipt goes out. In between: the generator's files are fetched at their pinned revision, the sampler
is loaded (or kept, when the unit is of the same generator), each draw is sampled, scored and judged, and every draw
becomes a row beside its image in one spooled shard, which is published under the name of its content. Nothing is part
of the dataset until the driver commits the receipt, so a worker can die anywhere without harm.
"""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from io import BytesIO
from typing import Any, cast

from PIL import Image

from captioning.real_units import store_real_unit
from crawlers.fetching.model_cache import ModelCache
from detectors.devices import DeviceName
from manifests.unit import RealUnitSpec, UnitSpec
from pipeline.device_check import check_device
from pipeline.disk_errors import disk_refusals
from pipeline.loaded_generator import LoadedGenerator
from pipeline.quiet import quiet_libraries
from pipeline.rows import generated_row
from pipeline.shared_models import SharedModels
from pipeline.spool import own_spool
from pipeline.tasks import CaptionChunk, Done, Failed, Outcome, Task, Usage
from pipeline.worker_config import WorkerConfig
from samplers.device_health import device_answers
from samplers.device_memory import limit_device_memory
from samplers.environment import Environment, current_environment, pin_threads, resolve_device, set_deterministic
from samplers.unit_drawing import DrawnImage, draw_unit
from shards.reader import image_bytes
from shards.statuses import Reason, UnitFailure
from shards.writer import Receipt, UnitWriter


class Worker:
    """Runs one task after another and keeps what the next may need: the sampler, the checker, shared components."""

    def __init__(self, config: WorkerConfig) -> None:
        """Pin threads and choose reproducible kernels; from here on this process samples.

        Raises:
            InputError: this process has no such device, none of the GPUs that it is to have, or cannot spool. Asked
                first: then nothing has changed yet.
        """
        check_device("execute.device", cast(DeviceName, config.device), gpus=config.gpus_per_worker)
        with disk_refusals(config.spool):
            self._spool = own_spool(config.spool)
        pin_threads(config.cpu_threads)
        set_deterministic()
        quiet_libraries()
        self._config = config
        self._device = resolve_device(config.device)
        limit_device_memory(self._device, config.gpus_per_worker)
        self._models = ModelCache(
            endpoint=config.endpoint,
            cache_dir=config.cache,
            token=config.token,
            timeout_seconds=config.download_timeout,
            disk_budget=config.disk_budget,
            prefetch=config.prefetch,
        )
        self._generator = LoadedGenerator(config, self._models, self._device)
        self._shared = SharedModels(config, self._models, self._device)

    def run(self, task: Task, on_fetched: Callable[[], None] = lambda: None) -> Outcome:
        """Run one task; a failure that has a name is an outcome, anything else is a bug of ours and is raised.

        Args:
            on_fetched: called once every file that the task needs is here: a unit's time limit starts then, for a
                download has a limit of its own.

        Raises:
            InputError: what the user must mend first: a full disk, a safety checker or captioner that cannot be had.
            HubOutage: the hub answers nobody, and the checker or captioner is not here.
        """
        started = time.monotonic()
        try:
            done = self._done(task, on_fetched)
        except UnitFailure as failure:
            self._generator.forget(failure)
            reason, detail = failure.reason, failure.detail
            if not device_answers(self._device):
                reason, detail = Reason.device_lost, f"{self._device} answers no more in this process, since: {detail}"
            seconds = time.monotonic() - started
            return Failed(task, reason, detail, seconds, socket.gethostname(), usage=self._usage(seconds))
        seconds = time.monotonic() - started
        return Done(task, seconds, socket.gethostname(), usage=self._usage(seconds), **done)

    def close(self) -> None:
        """Give back the models and end what is fetched in the background."""
        self._generator.let_go()
        self._models.close()

    def _usage(self, seconds: float) -> Usage:
        traffic, loading = self._models.take_traffic(), self._generator.take_seconds()
        return Usage(
            waited=traffic.waited,
            loading=loading,
            sampling=max(0.0, seconds - traffic.waited - loading),
            fetched=traffic.fetched,
            saved=traffic.saved,
        )

    def _done(self, task: Task, on_fetched: Callable[[], None]) -> dict[str, Any]:
        if isinstance(task.work, CaptionChunk):
            return {"captions": self._caption(task.work, on_fetched)}
        if isinstance(task.work, RealUnitSpec):
            on_fetched()
            return {"receipt": self._store(task.work)}
        receipt, environment = self._sample(task, task.work, on_fetched)
        return {"receipt": receipt, "environment": environment.id, "versions": environment.details}

    def _sample(self, task: Task, unit: UnitSpec, on_fetched: Callable[[], None]) -> tuple[Receipt, Environment]:
        def fetched() -> None:
            on_fetched()
            self._models.prefetch(task.upcoming)

        # The checker first: while it is fetched, this worker holds no generator that other workers could wait for.
        checker = self._shared.checker(unit.checker, self._generator.components)
        sampler = self._generator.sampler(unit, fetched)
        environment = current_environment(self._device, unit.dtype, compiled=sampler.compiled)
        batch_size = max(1, unit.batch_size >> task.halvings)
        sampled = {
            "negative_prompt": sampler.negative_prompt,
            "steps": sampler.steps,
            "guidance_scale": sampler.guidance_scale,
            "scheduler": sampler.scheduler_name,
            "watermark": sampler.watermark,
            "call_kwargs": sampler.call_record(batch_size),
            "checker_revision": f"{unit.checker.repo_id}@{unit.checker.revision}" if unit.checker else None,
            "environment": environment.id,
        }
        with self._writer(unit.unit, unit.generator.name) as writer:
            for drawn in draw_unit(unit, sampler, checker, batch_size=batch_size):
                writer.add(_row(unit, task.generation, drawn) | sampled, drawn.image)
            return writer.publish(), environment

    def _store(self, unit: RealUnitSpec) -> Receipt:
        with self._writer(unit.unit, f"real-{unit.source.name}") as writer:
            store_real_unit(unit, writer)
            return writer.publish()

    @contextmanager
    def _writer(self, unit: str, generator: str) -> Iterator[UnitWriter]:
        dataset = self._config.dataset
        with disk_refusals(self._spool, dataset), UnitWriter(dataset, self._spool, unit, generator) as writer:
            yield writer

    def _caption(self, chunk: CaptionChunk, on_fetched: Callable[[], None]) -> tuple[str, ...]:
        captioner = self._shared.captioner(chunk.captioner)
        on_fetched()
        rows = [asdict(image) for image in chunk.images]
        images = [Image.open(BytesIO(image_bytes(self._config.dataset, row))).convert("RGB") for row in rows]
        return tuple(captioner.caption(images))


def _row(unit: UnitSpec, generation: int, drawn: DrawnImage) -> dict[str, Any]:
    row = generated_row(unit, generation, drawn.draw, batch=drawn.batch, slot=drawn.slot, reason=drawn.reason)
    return row | {
        name: getattr(drawn, name)
        for name in (
            "prompt_sent",
            "truncated",
            "width",
            "height",
            "format",
            "mode",
            "sha256",
            "phash",
            "nsfw_flag",
            "nsfw_score",
        )
    }
