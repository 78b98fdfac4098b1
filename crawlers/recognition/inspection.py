"""One repo, looked at: from what the hub says of it to its row of the catalog."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crawlers.crawling.crawl_request import CrawlRequest
from crawlers.crawling.listing import ListedModel
from crawlers.hub.hub_client import HubClient
from crawlers.hub.hub_errors import ClientClosedError, HubError, HubUnreachableError
from crawlers.parameters.families import FAMILIES
from crawlers.parameters.family_evidence import identify_family
from crawlers.parameters.resolution import ParameterEvidence, resolve_parameters
from crawlers.recognition.base_resolution import verdict_of
from crawlers.recognition.described_fields import info_fields, licence_names, listed_fields, manifest_fields
from crawlers.recognition.eligibility import Verdict
from crawlers.recognition.lineage import named_bases
from crawlers.recognition.memory_estimate import gpu_memory_bytes, with_dtypes
from crawlers.recognition.package_inspection import look_at_package
from crawlers.recognition.pipeline_inspection import denoiser_dtype, has_pipeline, look_at_pipeline, repo_files
from manifests.generator import GeneratorSpec, WeightFile

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo


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
    return _Look(listed_fields(model)).end(verdict)


def inspect_repo(
    client: HubClient,
    repo_id: str,
    request: CrawlRequest,
    listed: ListedModel | None,
    spec: GeneratorSpec | None,
) -> Finding:
    """Look at one repo. Whatever is wrong with it becomes its reason; nothing about one repo ends a crawl.

    Args:
        listed: what the listing said, if the repo was in it.
        spec: the manifest entry of this repo, whose values win.

    Raises:
        HubUnreachableError, ClientClosedError: the hub or whoever asks is gone, which says nothing about the repo.
    """
    look = _Look(listed_fields(listed) if listed else {"author": repo_id.split("/")[0]})
    try:
        info = client.model_info(repo_id, revision=spec.revision if spec else None)
        return _look_inside(client, repo_id, info, request, spec, look)
    except (HubUnreachableError, ClientClosedError):
        raise
    except HubError as error:
        return look.end(verdict_of(error))


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
    look.fields |= info_fields(info, card, tags, look.bases) | manifest_fields(spec)
    licence = request.licence_rule.verdict(licence_names(card, tags))
    if not licence.eligible:
        return look.end(licence)
    if info.gated and client.token is None:
        return look.end(Verdict("gated", f"access is granted by {info.gated} approval, and no token was given"))
    files = repo_files(info)
    if _is_pipeline(files, spec):
        verdict = _look_at_pipeline(client, info, files, card, request, spec, look)
    else:
        package = look_at_package(client, info, files, card, look.bases, request, spec)
        look.bases = package.bases
        look.fields |= package.fields | {"base_model": ", ".join(package.bases) or None}
        verdict = package.verdict
    look.fields |= manifest_fields(spec)
    if not verdict.eligible:
        return look.end(verdict)
    agrees = _manifest_kind_agrees(spec, look.fields["kind"])
    return look.end(verdict if agrees.eligible else agrees)


def _is_pipeline(files: list[WeightFile], spec: GeneratorSpec | None) -> bool:
    """True where the repo is to be looked at as a whole pipeline: the manifest says so, or says nothing and it is."""
    if spec is not None and "packaging" in spec.model_fields_set:
        return spec.packaging == "pipeline"
    if spec is not None and spec.subfolder is not None:
        return True
    return has_pipeline(files) and (spec is None or spec.weight_name is None)


def _look_at_pipeline(
    client: HubClient,
    info: "ModelInfo",
    files: list[WeightFile],
    card: Mapping[str, Any],
    request: CrawlRequest,
    spec: GeneratorSpec | None,
    look: _Look,
) -> Verdict:
    """Fill in what a whole pipeline tells."""
    seen = look_at_pipeline(
        client,
        info,
        files,
        subfolder=spec.subfolder if spec is not None else None,
        variant=(spec.variant if spec is not None else None) or request.variant,
        code_allowed=bool(spec and spec.revision),
    )
    index, known, plan = seen.index, seen.known, seen.plan
    if index is not None:
        look.fields |= {"pipeline_class": index.pipeline_class, "subfolder": index.folder or None}
    if known is not None:
        look.fields["kind"] = known.kind
    if plan is not None:
        look.fields |= {"files": plan.files, "weight_bytes": plan.bytes, "variant": plan.variant}
    if not seen.verdict.eligible or index is None or known is None or plan is None:
        return seen.verdict
    match = identify_family(index, seen.configs, (info.id, *look.bases))
    # A manifest may name the family of a repo that its configs do not give away.
    named_family = spec.family if spec is not None and spec.family in FAMILIES else match.family
    paths = sorted(file.path for file in files)
    evidence = ParameterEvidence(
        named_family, info.id, known.takes, seen.configs, card, paths, spec.params if spec else None
    )
    params = resolve_parameters(evidence)
    weights = with_dtypes(plan.files, denoiser_dtype(client, info, plan.files))
    look.fields |= {
        "files": weights,
        "params": params,
        "kind": match.kind,
        "family": match.family,
        "architecture": match.architecture,
        "family_evidence": match.evidence,
        "gpu_memory_bytes": gpu_memory_bytes(named_family, params, seen.configs, weights),
    }
    return Verdict()


def _manifest_kind_agrees(spec: GeneratorSpec | None, kind: str) -> Verdict:
    if spec is not None and spec.kind != kind:
        return Verdict("unsupported_pipeline", f"the manifest says {spec.kind}, the pipeline is {kind}")
    return Verdict()
