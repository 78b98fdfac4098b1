"""A whole pipeline in a repo: its class, its weights, its configs. For a row of its own, or as an adapter's base."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crawlers.hub.hub_client import CONFIG_LIMIT, HubClient
from crawlers.hub.hub_errors import FileGoneError
from crawlers.recognition.eligibility import Verdict, judge_pipeline
from crawlers.recognition.layout import LayoutError, WeightPlan, plan_pipeline
from crawlers.recognition.memory_estimate import variant_dtype
from crawlers.recognition.model_index import (
    MODEL_INDEX,
    BadModelIndexError,
    ModelIndex,
    find_model_indexes,
    parse_model_index,
)
from crawlers.recognition.pipeline_classes import PIPELINE_CLASSES, PipelineClass
from crawlers.recognition.safetensors_header import stored_dtype
from manifests.generator import WeightFile

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

_CONFIGURED = ("unet", "transformer", "prior", "vae", "vqvae", "movq", "scheduler")
_TEXT_ENCODERS = ("text_encoder", "text_encoder_2")


@dataclass(frozen=True)
class PipelineLook:
    """What was seen of a pipeline before its `verdict`, which is "ok" when everything is there."""

    verdict: Verdict
    index: ModelIndex | None = None
    known: PipelineClass | None = None
    plan: WeightPlan | None = None
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def repo_files(info: "ModelInfo") -> list[WeightFile]:
    """Return all files of a repo, with the sizes and hashes that the hub tells."""
    return [_weight_file(sibling) for sibling in info.siblings or ()]


def has_pipeline(files: list[WeightFile], subfolder: str | None = None) -> bool:
    """True where a model_index.json is, at the root, in a subfolder, or in the one that is asked for."""
    folders = find_model_indexes({file.path for file in files})
    return bool(folders) if subfolder is None else subfolder in folders


def look_at_pipeline(
    client: HubClient,
    info: "ModelInfo",
    files: list[WeightFile],
    *,
    subfolder: str | None = None,
    variant: str | None = None,
    code_allowed: bool = False,
    text_encoders: bool = False,
) -> PipelineLook:
    """Look at the pipeline of a repo that has one.

    Args:
        code_allowed: a manifest entry names this repo and this revision.
        text_encoders: read their configs too.

    Raises:
        HubError: the hub did not give a config.
    """
    index = _read_index(client, info, files, subfolder)
    if isinstance(index, Verdict):
        return PipelineLook(index)
    paths = {file.path for file in files}
    known = PIPELINE_CLASSES.get(index.pipeline_class)
    verdict = judge_pipeline(index, paths, code_allowed=code_allowed)
    if not verdict.eligible:
        return PipelineLook(verdict, index, known)
    try:
        plan = plan_pipeline(index, files, variant=variant)
    except LayoutError as problem:
        return PipelineLook(Verdict(problem.reason, problem.detail), index, known)
    try:
        configs = _read_configs(client, info, index, paths, _CONFIGURED + (_TEXT_ENCODERS if text_encoders else ()))
    except BadModelIndexError as error:
        return PipelineLook(Verdict("bad_model_index", str(error)), index, known, plan)
    return PipelineLook(Verdict(), index, known, plan, configs)


def _read_index(
    client: HubClient, info: "ModelInfo", files: list[WeightFile], subfolder: str | None
) -> ModelIndex | Verdict:
    sizes = {file.path: file.size for file in files}
    folders = find_model_indexes(sizes) if subfolder is None else [subfolder]
    path = f"{folders[0]}/{MODEL_INDEX}" if folders and folders[0] else MODEL_INDEX
    if not folders or path not in sizes:
        return Verdict("no_model_index", f"{path} is not in the repo")
    if sizes[path] > CONFIG_LIMIT:
        return Verdict("bad_model_index", f"{path} has {sizes[path]} bytes")
    try:
        return parse_model_index(read_config(client, info, path), folders[0])
    except BadModelIndexError as error:
        return Verdict("bad_model_index", str(error))


def _read_configs(
    client: HubClient, info: "ModelInfo", index: ModelIndex, paths: set[str], wanted: tuple[str, ...]
) -> dict[str, Mapping[str, Any]]:
    configs: dict[str, Mapping[str, Any]] = {}
    for part in index.components:
        name = "scheduler_config.json" if part.name == "scheduler" else "config.json"
        path = index.path(part.name, name)
        if part.name in wanted and path in paths:
            config = read_config(client, info, path)
            if not isinstance(config, dict):
                raise BadModelIndexError(f"{path} is not a JSON object")
            configs[part.name] = config
    for name in ("scheduler", "vae", "vqvae", "movq"):  # there, even if nothing is known of it
        if index.component(name) is not None:
            configs.setdefault(name, {})
    return configs


def read_config(client: HubClient, info: "ModelInfo", path: str) -> Any:
    """Return a JSON file of the repo at the commit that `info` is of.

    Raises:
        BadModelIndexError: it is not JSON.
        HubError: the hub did not give it.
    """
    try:
        return client.read_json(info.id, info.sha or "main", path)
    except (ValueError, RecursionError) as error:  # not JSON, or not text at all
        raise BadModelIndexError(f"{path} is not JSON: {error}") from error
    except FileGoneError as error:
        raise FileGoneError(f"{path} is listed and answers 404") from error


def denoiser_dtype(client: HubClient, info: "ModelInfo", files: Sequence[WeightFile]) -> str | None:
    """Return the type that a pipeline's largest file is stored in, as its variant or its header says.

    Raises:
        HubUnreachableError: the hub is gone.
    """
    safe = [file for file in files if file.path.endswith(".safetensors")]
    if not safe:
        return None
    largest = max(safe, key=lambda file: file.size)
    return variant_dtype(largest.path) or stored_dtype(client, info.id, info.sha or "main", largest)


def _weight_file(sibling: Any) -> WeightFile:
    size = sibling.lfs.size if sibling.lfs else sibling.size
    return WeightFile(path=sibling.rfilename, size=size or 0, sha256=sibling.lfs.sha256 if sibling.lfs else None)
