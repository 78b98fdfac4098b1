"""One repo, looked at: from what the hub says of it to its row of the catalog."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from crawlers.crawl_request import CrawlRequest
from crawlers.eligibility import Verdict, judge_pipeline
from crawlers.families import FAMILIES
from crawlers.family_evidence import identify_family
from crawlers.hub_client import CONFIG_LIMIT, HubClient
from crawlers.hub_errors import (
    FileGoneError,
    HubError,
    HubUnreachableError,
    RepoGatedError,
    RepoGoneError,
    RevisionGoneError,
)
from crawlers.layout import LayoutError, describe_without_index, plan_pipeline
from crawlers.lineage import named_bases
from crawlers.listing import ListedModel
from crawlers.model_index import MODEL_INDEX, BadModelIndexError, ModelIndex, find_model_indexes, parse_model_index
from crawlers.parameters import ParameterEvidence, resolve_parameters
from crawlers.pipeline_classes import PIPELINE_CLASSES
from manifests.generator import GeneratorSpec, WeightFile

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

_CONFIGURED = ("unet", "transformer", "prior", "vae", "vqvae", "movq", "scheduler")


@dataclass(frozen=True)
class Finding:
    """What a repo's row says, without its place in the catalog: fields of CatalogRow, and the bases that it names."""

    fields: Mapping[str, Any]
    bases: tuple[str, ...] = ()

    @property
    def eligible(self) -> bool:
        return bool(self.fields["eligible"])


@dataclass
class _Look:
    """The fields gathered so far."""

    fields: dict[str, Any] = field(default_factory=dict)
    bases: tuple[str, ...] = ()

    def end(self, verdict: Verdict) -> Finding:
        return Finding(
            self.fields | {"eligible": verdict.eligible, "reason": verdict.reason, "detail": verdict.detail}, self.bases
        )


def not_looked_at(model: ListedModel, verdict: Verdict) -> Finding:
    """Return the finding of a listed model that a filter left out before anything was asked."""
    return _Look(_listed_fields(model)).end(verdict)


def inspect_repo(
    client: HubClient, repo_id: str, request: CrawlRequest, listed: ListedModel | None, spec: GeneratorSpec | None
) -> Finding:
    """Look at one repo. Whatever is wrong with it becomes its reason; nothing about one repo ends a crawl.

    Args:
        listed: what the listing said, if the repo was in it.
        spec: the manifest entry of this repo, whose values win.

    Raises:
        HubUnreachableError: the hub itself is gone, which says nothing about the repo.
    """
    look = _Look(_listed_fields(listed) if listed else {"author": repo_id.split("/")[0]})
    try:
        info = client.model_info(repo_id, revision=spec.revision if spec else None)
        return _look_inside(client, repo_id, info, request, spec, look)
    except HubUnreachableError:
        raise
    except HubError as error:
        return look.end(_verdict_of(error))


def _verdict_of(error: HubError) -> Verdict:
    if isinstance(error, RepoGatedError):
        return Verdict("gated", error.detail)
    if isinstance(error, (RepoGoneError, RevisionGoneError)):
        return Verdict("gone", error.detail)
    return Verdict("unavailable", error.detail)


def _look_inside(
    client: HubClient,
    listed_as: str,
    info: "ModelInfo",
    request: CrawlRequest,
    spec: GeneratorSpec | None,
    look: _Look,
) -> Finding:
    card = info.card_data.to_dict() if info.card_data is not None else {}
    tags = info.tags or []
    look.bases = named_bases(info.id, card, tags)
    if listed_as != info.id:  # the hub answers for a repo that was renamed: the new name is where it comes from
        look.bases = look.bases or (info.id,)
    look.fields |= _info_fields(info, card, tags, look.bases) | _manifest_fields(spec)
    licence = request.licence_rule.verdict(_licence_names(card, tags))
    if not licence.eligible:
        return look.end(licence)
    if info.gated and client.token is None:
        return look.end(Verdict("gated", f"access is granted by {info.gated} approval, and no token was given"))
    files = [_weight_file(sibling) for sibling in info.siblings or ()]
    paths = {file.path for file in files}
    index = _read_index(client, info, files, spec)
    if isinstance(index, Verdict):
        return look.end(index)
    look.fields |= {"pipeline_class": index.pipeline_class, "subfolder": index.folder or None}
    if (known := PIPELINE_CLASSES.get(index.pipeline_class)) is not None:
        look.fields["kind"] = known.kind
    verdict = judge_pipeline(index, paths, code_allowed=bool(spec and spec.revision))
    if not verdict.eligible or known is None:
        return look.end(verdict)
    try:
        variant = (spec.variant if spec else None) or request.variant
        plan = plan_pipeline(index, files, variant=variant)
    except LayoutError as problem:
        return look.end(Verdict(problem.reason, problem.detail))
    look.fields |= {"files": plan.files, "weight_bytes": plan.bytes, "variant": plan.variant}
    try:
        configs = _read_configs(client, info, index, paths)
    except BadModelIndexError as error:
        return look.end(Verdict("bad_model_index", str(error)))
    match = identify_family(index, configs, (info.id, *look.bases))
    # A manifest may name the family of a repo that its configs do not give away.
    named_family = spec.family if spec is not None and spec.family in FAMILIES else match.family
    evidence = ParameterEvidence(
        named_family, info.id, known.takes, configs, card, sorted(paths), spec.params if spec else None
    )
    look.fields["params"] = resolve_parameters(evidence)
    look.fields |= {"kind": match.kind, "family": match.family, "architecture": match.architecture}
    look.fields |= {"family_evidence": match.evidence} | _manifest_fields(spec)
    return look.end(_manifest_kind_agrees(spec, match.kind))


def _manifest_kind_agrees(spec: GeneratorSpec | None, kind: str) -> Verdict:
    if spec is not None and spec.kind != kind:
        return Verdict("unsupported_pipeline", f"the manifest says {spec.kind}, the pipeline is {kind}")
    return Verdict()


def _read_index(
    client: HubClient, info: "ModelInfo", files: list[WeightFile], spec: GeneratorSpec | None
) -> ModelIndex | Verdict:
    sizes = {file.path: file.size for file in files}
    folders = find_model_indexes(sizes)
    if spec is not None and spec.subfolder is not None:
        if f"{spec.subfolder}/{MODEL_INDEX}" not in sizes:
            return Verdict("no_model_index", f"{spec.subfolder}/{MODEL_INDEX} is not in the repo")
        folders = [spec.subfolder]
    if not folders:
        return Verdict("no_model_index", describe_without_index(sizes))
    path = f"{folders[0]}/{MODEL_INDEX}" if folders[0] else MODEL_INDEX
    if sizes[path] > CONFIG_LIMIT:
        return Verdict("bad_model_index", f"{path} has {sizes[path]} bytes")
    try:
        return parse_model_index(_read_json(client, info, path), folders[0])
    except BadModelIndexError as error:
        return Verdict("bad_model_index", str(error))


def _read_configs(
    client: HubClient, info: "ModelInfo", index: ModelIndex, paths: set[str]
) -> dict[str, Mapping[str, Any]]:
    configs: dict[str, Mapping[str, Any]] = {}
    for part in index.components:
        name = "scheduler_config.json" if part.name == "scheduler" else "config.json"
        path = index.path(part.name, name)
        if part.name in _CONFIGURED and path in paths:
            config = _read_json(client, info, path)
            if not isinstance(config, dict):
                raise BadModelIndexError(f"{path} is not a JSON object")
            configs[part.name] = config
    for name in ("scheduler", "vae", "vqvae", "movq"):  # there, even if nothing is known of it
        if index.component(name) is not None:
            configs.setdefault(name, {})
    return configs


def _read_json(client: HubClient, info: "ModelInfo", path: str) -> Any:
    try:
        return client.read_json(info.id, info.sha or "main", path)
    except ValueError as error:  # not JSON, or not text at all
        raise BadModelIndexError(f"{path} is not JSON: {error}") from error
    except FileGoneError as error:
        raise FileGoneError(f"{path} is listed and answers 404") from error


def _weight_file(sibling: Any) -> WeightFile:
    size = sibling.lfs.size if sibling.lfs else sibling.size
    return WeightFile(path=sibling.rfilename, size=size or 0, sha256=sibling.lfs.sha256 if sibling.lfs else None)


def _listed_fields(model: ListedModel) -> dict[str, Any]:
    return {
        "downloads": model.downloads,
        "likes": model.likes,
        "author": model.author,
        "created_at": _iso(_moment(model.created_at)),
        "license": next((name for name in _licence_names({}, model.tags)), None),
        "hf_pipeline_tag": model.pipeline_tag,
        "hf_diffusers_tag": _diffusers_tag(model.tags),
    }


def _info_fields(info: "ModelInfo", card: Mapping[str, Any], tags: list[str], bases: tuple[str, ...]) -> dict[str, Any]:
    licences = _licence_names(card, tags)
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


def _manifest_fields(spec: GeneratorSpec | None) -> dict[str, Any]:
    """Return the descriptive fields that a manifest entry sets itself."""
    if spec is None:
        return {}
    told = spec.model_fields_set & _MANIFEST_FIELDS
    fields = {key: getattr(spec, key) for key in told if getattr(spec, key) is not None}
    return fields | {"subset": spec.subset if "subset" in spec.model_fields_set else "manual"}


def _licence_names(card: Mapping[str, Any], tags: "list[str] | tuple[str, ...]") -> list[str]:
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
