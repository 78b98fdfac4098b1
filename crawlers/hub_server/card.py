"""The model card: YAML front matter of README.md, and the tags and config that the hub derives from a repo."""

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

log = logging.getLogger(__name__)

_CARD_TAGS = ("license", "base_model", "dataset", "arxiv")


def read_card(readme: Path | None) -> dict[str, Any]:
    """Return the front matter of ``readme``; empty if there is none or it is not a YAML mapping.

    A stranger's broken card is the stranger's affair: it is logged, and the repo is served without one.
    """
    if readme is None:
        return {}
    text = readme.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("---\n"):
        return {}
    front, fence, _ = text[4:].partition("\n---")
    if not fence:
        return {}
    try:
        # Through JSON: cards hold dates, which it has not, and what it cannot hold at all is no card.
        card = json.loads(json.dumps(yaml.safe_load(front), default=str))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        # PyYAML answers an impossible date (2024-13-01) with a bare ValueError.
        log.warning("%s: front matter is ignored: %s", readme, error)
        return {}
    return card if isinstance(card, dict) else {}


def _strings(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(item) for item in (value if isinstance(value, list) else [value])]


def derived_tags(
    card: Mapping[str, Any],
    library: str | None,
    pipeline_tag: str | None,
    config: Mapping[str, Any],
    paths: Iterable[str],
) -> list[str]:
    """The tags that the hub adds by itself, in its order: library, file formats, pipeline class, card, region."""
    paths = list(paths)
    tags = [library] if library else []
    tags += [name for name in ("safetensors", "onnx") if any(path.endswith(f".{name}") for path in paths)]
    if pipeline_tag:
        tags.append(pipeline_tag)
    tags += _strings(card.get("tags"))
    if pipeline_class := config.get("diffusers", {}).get("_class_name"):
        tags.append(f"diffusers:{pipeline_class}")
    for key in _CARD_TAGS:
        tags += [f"{key}:{value}" for value in _strings(card.get(key) or card.get(f"{key}s"))]
    if relation := card.get("base_model_relation"):
        tags += [f"base_model:{relation}:{base}" for base in _strings(card.get("base_model"))]
    tags.append("region:us")
    return tags


def derived_config(files: Mapping[str, Path]) -> dict[str, Any]:
    """The ``config`` that the hub shows: ``{"diffusers": {"_class_name"}}`` or a transformers' architectures."""
    config: dict[str, Any] = {}
    index = _json(files.get("model_index.json"))
    if "_class_name" in index:
        config["diffusers"] = {"_class_name": index["_class_name"]}
    root = _json(files.get("config.json"))
    config |= {key: root[key] for key in ("architectures", "model_type") if key in root}
    if "_class_name" in root and "diffusers" not in config:
        config["diffusers"] = {"_class_name": root["_class_name"]}
    return config


def _json(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        log.warning("%s: not JSON, so the hub shows no config: %s", path, error)
        return {}
    return data if isinstance(data, dict) else {}
