"""What the page reads of a detector's files. Unknown keys are ignored: newer files stay readable. Needs no torch."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from manifests.errors import InputError


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Binary(_Read):
    """Metrics of one set of images; None where a class is missing, with the reason in `undefined`."""

    n_fake: int
    ap: float | None
    auc: float | None
    accuracy: float | None
    r_acc: float | None
    f_acc: float | None
    undefined: dict[str, str] = {}


class Macro(_Read):
    """Means over generators."""

    n: int
    ap: float | None
    auc: float | None
    accuracy: float | None
    r_acc: float | None
    f_acc: float | None
    excluded: dict[str, str] = {}


class Bounds(_Read):
    low: float
    high: float


class Intervals(_Read):
    """Bootstrap intervals of the macro metrics, or the reason why there are none."""

    level: float
    resamples: int
    photographs: int
    auc: Bounds | None = None
    ap: Bounds | None = None
    reason: str | None = None


class Curve(_Read):
    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]


class Scores(_Read):
    edges: tuple[float, ...]
    real: tuple[int, ...]
    fake: tuple[int, ...]


class OfGenerator(Binary):
    real_rule: str | None = None
    trained_on: bool | None = None
    roc: Curve | None = None


class View(_Read):
    """One evaluation of one view of the images."""

    macro: Macro
    micro: Binary
    per_generator: dict[str, OfGenerator]
    interval: Intervals
    histogram: Scores | None = None


class EqualisedView(View):
    method: str = ""


class Selected(_Read):
    split: str | None = None


class Seen(_Read):
    images: int
    photographs: int


class EvaluationFile(View):
    """An evaluation's report.json; the metrics at the top are those of the untouched images."""

    equalised: EqualisedView | None = None
    dataset: str
    dataset_fingerprint: str | None = None
    selection: Selected = Selected()
    images: dict[str, int] = {}
    seen_in_training: Seen | None = None
    files: dict[str, str] = {}


class Architecture(_Read):
    name: str
    description: str = ""
    license: str = ""
    paper: str = ""


class TrainedOn(_Read):
    dataset_fingerprint: str | None = None
    generators: tuple[str, ...] = ()
    training_images: dict[str, int] = {}


class Validated(_Read):
    iteration: int
    ap: float
    auc: float


class DetectorFile(_Read):
    """A detector's detector.json."""

    architecture: Architecture
    weights_sha256: str
    data: TrainedOn = TrainedOn()
    validation: Validated | None = None


_File = TypeVar("_File", bound=_Read)


def read_json(path: Path, kind: type[_File]) -> _File:
    """Read one of the files above.

    Raises:
        InputError: the file cannot be read or is not of this kind; the message names it and the key at fault.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}: {where + ': ' if where else ''}{first['msg']}") from error
