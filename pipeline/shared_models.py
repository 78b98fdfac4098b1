"""Models that all units share: the safety checker and the captioner. Once loaded they stay for as long as the worker.

Their failures are nobody's unit's. One that a generator's unit were blamed for would give up that generator, and then
the next; so it ends the run, and says whether the user has something to mend.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from captioning.blip import BlipCaptioner
from crawlers.fetching.held_folders import HeldFolders
from crawlers.fetching.model_cache import ModelCache
from crawlers.hub.hub_errors import redact
from manifests.errors import InputError
from manifests.unit import CheckerSpec
from pipeline.config import CaptionerConfig
from pipeline.hub_outage import check_hub_answers
from pipeline.interruption import NotFetched
from pipeline.worker_config import WorkerConfig
from samplers.component_store import ComponentStore
from samplers.safety_checker import SafetyChecker
from shards.statuses import Reason, Status, UnitFailure

_OF_THE_HUB = {Reason.download_failed, Reason.download_timeout}


class SharedModels:
    """The checker and the captioner of one worker, each with its files, which are held while this process lives."""

    def __init__(self, config: WorkerConfig, models: ModelCache, device: str) -> None:
        self._config = config
        self._models = models
        self._device = device
        self._checker: tuple[CheckerSpec, SafetyChecker, HeldFolders] | None = None
        self._captioner: tuple[CaptionerConfig, BlipCaptioner, HeldFolders] | None = None

    def checker(self, spec: CheckerSpec | None, components: ComponentStore) -> SafetyChecker | None:
        """Return the checker, loaded; None if the units have none.

        Raises:
            InputError: it cannot be had; NotFetched when another try may bring it.
            HubOutage: it cannot be had since the hub answers nobody.
            UnitFailure: no memory is left beside the generator that is loaded.
        """
        if spec is None:
            return None
        if self._checker is None or self._checker[0] != spec:
            with self._not_the_units("sample.checker", spec.repo_id):
                files = self._models.fetch_repo(spec.repo_id, spec.revision)
                checker = SafetyChecker.load(files.folder, spec.revision, self._device, components=components)
            self._checker = (spec, checker, files)
        return self._checker[1]

    def captioner(self, spec: CaptionerConfig) -> BlipCaptioner:
        """Return the captioner, loaded.

        Raises:
            InputError, NotFetched, HubOutage, UnitFailure: as `checker`.
        """
        if self._captioner is None or self._captioner[0] != spec:
            if spec.revision is None:
                raise ValueError("the captioner's revision is pinned before captioning")
            with self._not_the_units("caption.captioner", spec.repo_id):
                files = self._models.fetch_repo(spec.repo_id, spec.revision)
                captioner = BlipCaptioner.load(
                    files.folder,
                    self._device,
                    "float32",
                    batch_size=spec.batch_size,
                    max_new_tokens=spec.max_new_tokens,
                )
            self._captioner = (spec, captioner, files)
        return self._captioner[1]

    @contextmanager
    def _not_the_units(self, key: str, repo_id: str) -> Iterator[None]:
        """Keep the failure of a shared model from being blamed on the unit.

        Memory is the exception: what is left of it depends on the generator that is loaded beside it.
        """
        endpoint = self._config.endpoint
        try:
            yield
        except UnitFailure as failure:
            if failure.status is Status.oom:
                raise
            told = f"{key}: {repo_id}: {failure.detail} ({failure.reason})"
            if failure.reason in _OF_THE_HUB:
                check_hub_answers(endpoint, self._config.token, repo_id, f"{key}: {repo_id}")
                where = f"(asked {redact(endpoint)}); the same command goes on from here"
                raise NotFetched(f"{told} {where}") from failure
            raise InputError(f"{told}; the same command goes on from here") from failure
