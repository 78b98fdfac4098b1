"""A repo that is no whole pipeline, looked at: what it is, what it is loaded into, and whether the two fit."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from crawlers.crawling.crawl_request import CrawlRequest
from crawlers.hub.hub_client import HubClient
from crawlers.parameters.families import FAMILIES
from crawlers.parameters.family_evidence import FamilyMatch, identify_family
from crawlers.parameters.resolution import AdapterEvidence, ParameterEvidence, resolve_parameters
from crawlers.recognition.base_resolution import BaseLook, BaseLookup
from crawlers.recognition.eligibility import Verdict
from crawlers.recognition.memory_estimate import gpu_memory_bytes, with_dtypes
from crawlers.recognition.model_index import ModelIndex
from crawlers.recognition.package_base import find_base, pinned_base
from crawlers.recognition.package_texts import read_readme, trigger_words
from crawlers.recognition.packaging import Package, recognise
from crawlers.recognition.pipeline_classes import LOADS
from manifests.generator import GeneratorSpec, WeightFile

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo


@dataclass
class PackageLook:
    """The catalog's fields as far as they are known, the bases that count for lineage, and the verdict."""

    verdict: Verdict = field(default_factory=Verdict)
    fields: dict[str, Any] = field(default_factory=dict)
    bases: tuple[str, ...] = ()


def look_at_package(
    client: HubClient,
    info: "ModelInfo",
    files: list[WeightFile],
    card: Mapping[str, Any],
    bases: tuple[str, ...],
    request: CrawlRequest,
    spec: GeneratorSpec | None,
) -> PackageLook:
    """Look at a repo without a pipeline of its own.

    Args:
        bases: that card and tags name.
        spec: the manifest entry of this repo, whose values win.

    Raises:
        HubError: the hub did not give a file of the repo.
    """
    look = PackageLook(bases=bases)
    lookup = BaseLookup(client, request.variant)
    readme = read_readme(client, info, files)
    told = spec.packaging if spec is not None and "packaging" in spec.model_fields_set else None
    package = recognise(
        client,
        info,
        files,
        card=card,
        readme=readme,
        weight_name=spec.weight_name if spec is not None else None,
        packaging=told,
    )
    if isinstance(package, Verdict):
        look.verdict = package
        return look
    look.fields |= {
        "packaging": package.packaging,
        "files": package.files,
        "weight_bytes": sum(file.size for file in package.files),
        "weight_name": package.weight_name,
        "component": package.component,
        "subfolder": package.subfolder,
        "variant": package.variant,
    }
    notes: list[str] = list(package.notes)
    found = find_base(client, info, files, package, bases, spec, lookup, notes)
    if isinstance(found, Verdict):
        look.verdict = found
        return look
    named, base = found
    assert base.info is not None and base.look.index is not None and base.look.known is not None
    look.bases = bases or (base.info.id,)
    index, known = base.look.index, base.look.known
    look.fields |= {"pipeline_class": index.pipeline_class, "kind": known.kind}
    if package.component is None and index.pipeline_class not in LOADS.get(package.packaging, frozenset()):
        look.verdict = Verdict(
            "unsupported_pipeline", f"{index.pipeline_class} cannot be given {package.contents.what}"
        )
        return look
    pinned = pinned_base(package, base, named)
    configs = dict(base.look.configs)
    if package.component is not None and package.config:
        configs[package.component] = package.config
    match = _family(package, base, index, configs, info.id)
    if "v_pred" in package.header.tensors:  # the base's scheduler does not speak for such a checkpoint
        marked = {"prediction_type"}
        if "ztsnr" in package.header.tensors:
            marked |= FAMILIES[match.family].scheduler_config.keys()
        configs["scheduler"] = {k: v for k, v in configs.get("scheduler", {}).items() if k not in marked}
    family = spec.family if spec is not None and spec.family in FAMILIES else match.family
    evidence = ParameterEvidence(
        family,
        info.id,
        known.takes,
        configs,
        card,
        sorted(file.path for file in files),
        spec.params if spec is not None else None,
        AdapterEvidence(
            package.packaging,
            package.weight_name,
            readme,
            trigger_words(client, info, files, package, card, readme),
            base.info.id,
            base.card or {},
        ),
    )
    params = resolve_parameters(evidence)
    own = with_dtypes(package.files, package.header.main_dtype)
    base_dtype = lookup.dtype(base) if pinned.files else None
    pinned = pinned.model_copy(update={"files": with_dtypes(pinned.files, base_dtype)})
    look.fields |= {
        "files": own,
        "base": pinned,
        "params": params,
        "kind": match.kind,
        "family": match.family,
        "architecture": match.architecture,
        "family_evidence": f"base {base.info.id} ({named.source}); {match.evidence}",
        "weight_bytes": look.fields["weight_bytes"] + sum(file.size for file in pinned.files),
        "gpu_memory_bytes": gpu_memory_bytes(family, params, configs, (*own, *pinned.files)),
    }
    look.verdict = Verdict(detail="; ".join(notes) or None)
    return look


def _family(
    package: Package, base: BaseLook, index: ModelIndex, configs: Mapping[str, Mapping[str, Any]], repo_id: str
) -> FamilyMatch:
    """Return the family: for a LoRA or learned tokens that of the base, whatever the adapter is called."""
    assert base.info is not None
    names = (base.info.id, *base.bases)
    if package.packaging in ("single-file", "component"):
        names = (repo_id, package.weight_name or "", *names)
    match = identify_family(index, configs, names)
    if package.contents.family in ("sdxl-vpred", "playground-v2.5") and match.family != package.contents.family:
        return replace(match, family=package.contents.family, evidence=f"{match.evidence}; the file's header")
    return match
