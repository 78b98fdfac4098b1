"""Whether two training runs are the same run: what must agree before one may go on where the other stopped."""

from pathlib import Path

from detectors.architecture import ArchitectureConfig
from detectors.saved_detector import RECORD_FILE, DetectorRecord, read_record
from detectors.train_config import RUNTIME_KEYS, TrainConfig
from manifests.errors import InputError
from shards.identifiers import canonical_json

SELECTED_IMAGES = "selected images"


class OtherRun(InputError):  # noqa: N818 - named for what is the case
    """A folder holds a training run of other settings or images."""


def run_identity(config: TrainConfig, architecture: ArchitectureConfig, selection_fingerprint: str) -> dict[str, str]:
    """Return setting -> value for all that the trained weights depend on, besides hardware and library versions."""
    settings = config.model_dump(mode="json", exclude=set(RUNTIME_KEYS))
    values = settings | {"architecture config": architecture.model_dump(mode="json")}
    return {key: canonical_json(value) for key, value in values.items()} | {SELECTED_IMAGES: selection_fingerprint}


def check_same_run(path: Path, old: dict[str, str], new: dict[str, str]) -> None:
    """Raise OtherRun naming the settings in which the run stored in `path` differs from the one wanted."""
    differing = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    if differing:
        raise OtherRun(
            f"{path} is of a run with other settings (differing: {', '.join(differing)}); "
            "set them back, choose another folder, or restart this one"
        )


def finished_run(out: Path, identity: dict[str, str]) -> DetectorRecord | None:
    """Return the record of the finished run in `out`, None when there is none; OtherRun when it is another run's."""
    if not (out / RECORD_FILE).exists():
        return None
    record = read_record(out)
    old = run_identity(record.training, record.architecture, record.data.selection_fingerprint)
    check_same_run(out / RECORD_FILE, old, identity)
    return record
