"""docs/configuration.md names every key of a config, with its kind, default and meaning."""

from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from detectors.train_config import TrainConfig
from manifests.key_kinds import check_marked, kind_of
from pipeline.config import CaptionerConfig, CheckerConfig, DetectorConfig, RunConfig

DOC = Path(__file__).parents[2] / "docs" / "configuration.md"
SECTIONS = {"captioner": CaptionerConfig, "checker": CheckerConfig}


def _default(field: FieldInfo) -> str:
    default = field.default
    if default is PydanticUndefined or default is ...:
        return "required"
    if isinstance(default, BaseModel):
        return "see below"
    if default is None:
        return "null"
    if isinstance(default, (tuple, dict)):
        return ", ".join(f"`{item}`" for item in default) or "empty"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`" if default != "" else "empty"


def documented_rows() -> list[str]:
    """The lines that the document must have, in order."""
    rows = []

    def walk(model: type[BaseModel], prefix: str) -> None:
        for name, field in model.model_fields.items():
            key = f"{prefix}{name}"
            section = SECTIONS.get(name) or (field.annotation if isinstance(field.annotation, type) else None)
            nested = section if isinstance(section, type) and issubclass(section, BaseModel) else None
            if nested is None or name in SECTIONS:
                kind = kind_of(RunConfig, key) if name not in SECTIONS else "identity"
                rows.append(f"| `{key}` | {kind} | {_default(field)} | {field.description or ''} |")
            if nested is not None:
                walk(nested, f"{key}.")

    walk(RunConfig, "")
    for name, field in DetectorConfig.model_fields.items():
        rows.append(f"| `detectors[].{name}` | runtime | {_default(field)} | {field.description or ''} |")
    for name, field in TrainConfig.model_fields.items():
        if name not in ("architecture", "selection"):
            meaning = field.description or name.replace("_", " ")
            rows.append(f"| `detectors[].train.{name}` | runtime | {_default(field)} | {meaning} |")
    return rows


def test_every_key_is_documented_as_it_is() -> None:
    written = [line for line in DOC.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert written == documented_rows()


def test_every_key_is_marked() -> None:
    check_marked(RunConfig)
    assert kind_of(RunConfig, "sample.batch_size") == "identity"
    assert kind_of(RunConfig, "sample.images_per_generator") == "extent"
    assert kind_of(RunConfig, "execute.workers") == "runtime"
