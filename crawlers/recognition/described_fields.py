"""The catalog's fields that somebody tells: the listing, the hub, the model card and its tags, the manifest."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from crawlers.crawling.listing import ListedModel
from manifests.generator import GeneratorSpec

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo


def listed_fields(model: ListedModel) -> dict[str, Any]:
    """Return what the listing says of a model."""
    return {
        "downloads": model.downloads,
        "likes": model.likes,
        "author": model.author,
        "created_at": _iso(_moment(model.created_at)),
        "license": next((name for name in licence_names({}, model.tags)), None),
        "hf_pipeline_tag": model.pipeline_tag,
        "hf_diffusers_tag": _diffusers_tag(model.tags),
    }


def info_fields(info: "ModelInfo", card: Mapping[str, Any], tags: list[str], bases: tuple[str, ...]) -> dict[str, Any]:
    """Return what the hub and the card say of a repo that names these bases."""
    licences = licence_names(card, tags)
    return {
        "revision": info.sha,
        "downloads": info.downloads,
        "likes": info.likes,
        "author": info.author or info.id.split("/")[0],
        "created_at": _iso(info.created_at),
        "last_modified": _iso(info.last_modified),
        "gated": str(info.gated) if info.gated else None,
        "base_model": ", ".join(bases) or None,
        "license": licences[-1] if licences else None,
        "hf_pipeline_tag": info.pipeline_tag,
        "hf_diffusers_tag": _diffusers_tag(tags),
    }


_MANIFEST_FIELDS = frozenset(
    {
        "architecture",
        "author",
        "dtype",
        "family",
        "hf_diffusers_tag",
        "hf_pipeline_tag",
        "license",
        "lineage",
        "release_date",
    }
)


def manifest_fields(spec: GeneratorSpec | None) -> dict[str, Any]:
    """Return the descriptive fields that a manifest entry sets itself."""
    if spec is None:
        return {}
    told = spec.model_fields_set & _MANIFEST_FIELDS
    fields = {key: getattr(spec, key) for key in told if getattr(spec, key) is not None}
    return fields | {"subset": spec.subset if "subset" in spec.model_fields_set else "manual"}


def licence_names(card: Mapping[str, Any], tags: "list[str] | tuple[str, ...]") -> list[str]:
    """Return the names that the licence goes by, the most telling last: for `other`, the card's own name of it."""
    given = card.get("license")
    names = [name for name in (given if isinstance(given, list) else [given]) if isinstance(name, str) and name]
    names = names or [tag.removeprefix("license:") for tag in tags if tag.startswith("license:")]
    if names == ["other"] and isinstance(own := card.get("license_name"), str) and own:
        names.append(own)
    return names


def _diffusers_tag(tags: "list[str] | tuple[str, ...]") -> str | None:
    return next((tag for tag in tags if tag.startswith("diffusers:")), None)


def _moment(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def _iso(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None
