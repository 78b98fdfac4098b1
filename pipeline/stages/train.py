"""The train stage: every configured detector, on the train split."""

from pathlib import Path

from crawlers.fetching.fetch import fetch_repo, pin_revision
from detectors.registry import get_architecture
from detectors.run_identity import OtherRun
from detectors.train_config import parse_train_config
from detectors.training import TrainProgress
from detectors.training import train as train_detector
from manifests.errors import InputError
from pipeline.config import DetectorConfig, RunConfig
from pipeline.context import RunContext
from pipeline.hub_token import hub_token
from pipeline.progress import StageProgress, say


def check_detectors(config: RunConfig) -> None:
    """Check the detectors' settings, so that a slip in them is told before the first image is made, not after the last.

    Raises:
        InputError: an unknown architecture, a bad training setting, or two detectors of one name.
    """
    names = [detector.name for detector in config.detectors]
    for detector in config.detectors:
        if names.count(detector.name) > 1:
            raise InputError(f"detectors: two of them have the name {detector.name!r}, and each needs its own folder")
        try:
            get_architecture(detector.architecture)
        except InputError as error:
            raise InputError(f"detectors: {detector.name}: {error}") from error
        parse_train_config(_settings(config, detector), f"detectors: {detector.name}")


def train(context: RunContext) -> None:
    """Train the detectors that are missing, or whose images or settings have changed since.

    Raises:
        InputError: bad settings, no images of one class, or a backbone that cannot be fetched.
    """
    for detector in context.config.detectors:
        _train_one(context, detector)


def _train_one(context: RunContext, detector: DetectorConfig) -> None:
    architecture = get_architecture(detector.architecture)
    settings = _settings(context.config, detector)
    if (
        detector.backbone == "pretrained"
        and architecture.config.backbone_weights
        and "initial_detector" not in settings
    ):
        settings.setdefault("initial_backbone", str(_backbone(context, architecture.config.backbone_weights)))
    config = parse_train_config(settings, f"detectors: {detector.name}")
    out = context.folder.detectors / detector.name
    done = 0
    with StageProgress(f"train {detector.name}", config.iterations, "iterations") as progress:

        def report(at: TrainProgress) -> None:
            nonlocal done
            progress.advance(at.iteration - done, f"loss {at.loss:.3f}")
            done = at.iteration

        try:
            record = train_detector(context.folder.dataset, out, config, progress=report)
        except OtherRun:
            say(f"train: {detector.name}: settings or images have changed, training anew")
            record = train_detector(context.folder.dataset, out, config, progress=report, restart=True)
    images = record.data.training_images
    say(
        f"train: {detector.name}: {images['real']} real and {images['fake']} fake images of "
        f"{len(record.data.generators)} generators; validation AP {record.validation.ap:.3f}"
    )


def _settings(config: RunConfig, detector: DetectorConfig) -> dict[str, object]:
    settings: dict[str, object] = {"architecture": detector.architecture, "selection": {"split": "train"}}
    settings["device"] = config.execute.device
    return settings | detector.train


def _backbone(context: RunContext, repo_id: str) -> Path:
    hub = context.config.hub
    return fetch_repo(
        repo_id,
        pin_revision(repo_id, hub.endpoint, hub_token()),
        endpoint=hub.endpoint,
        cache_dir=hub.cache,
        token=hub_token(),
        timeout_seconds=hub.download_timeout,
    )
