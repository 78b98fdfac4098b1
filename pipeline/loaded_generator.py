"""The generator that a worker has loaded: kept for the next unit of it, exchanged when a unit is another's."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from crawlers.fetching.held_folders import HeldFolders
from crawlers.fetching.model_cache import ModelCache
from manifests.generator import GeneratorSpec
from manifests.unit import UnitSpec
from pipeline.memory_plan import activation_bytes, largest_component_bytes, model_bytes
from pipeline.worker_config import WorkerConfig
from samplers.base import Sampler
from samplers.component_store import ComponentStore
from samplers.device_memory import main_memory_share
from samplers.placement import OffloadSetting, Placement, plan_placement
from samplers.registry import load_sampler
from shards.statuses import Status, UnitFailure

_HALF_WAY = (Status.oom, Status.crashed)
"""What a failure that ended a call is recorded as."""


@dataclass(frozen=True)
class _Loaded:
    """The generator that is ready to sample, and its files, which must not be evicted while it is."""

    spec: GeneratorSpec
    sampler: Sampler
    files: HeldFolders

    def close(self) -> None:
        self.sampler.close()
        self.files.release()


class LoadedGenerator:
    """At most one generator at a time, and the components that the next one may share with it.

    Attributes:
        components: text encoders, VAEs and bases by content; the safety checker takes its own from here too. They
            stay when a generator goes, until the next is known: it takes over what it shares, and what is left of the
            others is what has room beside it.
    """

    def __init__(self, config: WorkerConfig, models: ModelCache, device: str) -> None:
        self._config = config
        self._models = models
        self._device = device
        self._loaded: _Loaded | None = None
        self._seconds = 0.0
        self.components = ComponentStore()

    def sampler(self, unit: UnitSpec, on_fetched: Callable[[], None]) -> Sampler:
        """Return the sampler of the unit's generator: the one that is loaded, or in its place a new one.

        Args:
            on_fetched: called once the generator's files are here.

        Raises:
            UnitFailure: it cannot be fetched or loaded, or it is an adapter that changes nothing.
        """
        if self._loaded is not None and self._loaded.spec == unit.generator:
            on_fetched()
            return self._loaded.sampler
        # The old generator is let go after the download, since until then it may still be of use, unless the disk
        # budget does not hold both.
        files = self._models.fetch(unit.generator, make_room=self.let_go)
        on_fetched()
        self.let_go()
        started = time.monotonic()
        try:
            sampler = load_sampler(
                unit.generator,
                files.folder,
                base_folder=files.base,
                dtype=unit.dtype,
                device=self._device,
                components=self.components,
                placement=self._placement(unit),
            )
        except UnitFailure:
            files.release()
            raise
        finally:
            self._seconds += time.monotonic() - started
        loaded = _Loaded(unit.generator, sampler, files)
        try:
            sampler.check_effect()
        except UnitFailure:
            loaded.close()
            raise
        self._loaded = loaded
        return sampler

    def let_go(self) -> None:
        """Give the generator's memory and files back; components stay."""
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None

    def forget(self, failure: UnitFailure) -> None:
        """Keep nothing that was left half-way: a call that raises leaves the shared VAE lifted to another precision,
        and every generator that were given it next would fail for it.

        Failures that name a fault of the files or of the call's arguments come before or between calls: what is
        resident is as it was, and stays.
        """
        if failure.status in _HALF_WAY:
            self.let_go()
            self.components = ComponentStore()

    def take_seconds(self) -> float:
        """Return the seconds that loading took since the last call."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def _placement(self, unit: UnitSpec) -> Placement:
        """Offload as little as the device at hand needs: unlike precision and batch size it changes no byte.

        What other generators left behind is not counted: it is let go first, as far as the plan needs its room.
        """
        share = self._config.gpus_per_worker
        return plan_placement(
            model_bytes(unit.generator, unit.dtype),
            activation_bytes(unit.generator, unit.dtype, unit.batch_size),
            self._device,
            cast(OffloadSetting, self._config.offload),
            largest_bytes=largest_component_bytes(unit.generator, unit.dtype),
            share=share if 0 < share < 1 else 1.0,
            main_bytes=main_memory_share(self._config.cpu_threads, self._config.worker_memory),
            compile=self._config.compile,
        )
