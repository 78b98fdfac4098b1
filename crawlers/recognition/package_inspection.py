"""A repo that is no whole pipeline, looked at: what it is, what it is loaded into, and whether the two fit."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from crawlers.crawling.crawl_request import CrawlRequest
from crawlers.hub.hub_client import CONFIG_LIMIT, HubClient
from crawlers.hub.hub_errors import ClientClosedError, HubError, HubUnreachableError
from crawlers.parameters.families import FAMILIES
from crawlers.parameters.family_evidence import FamilyMatch, identify_family
from crawlers.parameters.resolution import AdapterEvidence, ParameterEvidence, resolve_parameters
from crawlers.recognition.base_fit import misfit
from crawlers.recognition.base_resolution import BaseLook, BaseLookup, NamedBase, name_bases
from crawlers.recognition.eligibility import Verdict
from crawlers.recognition.lineage import resolve_alias
from crawlers.recognition.memory_estimate import gpu_memory_bytes, variant_dtype
from crawlers.recognition.model_index import BadModelIndexError, ModelIndex
from crawlers.recognition.packaging import Package, family_of_config, recognise
from crawlers.recognition.pipeline_classes import LOADS
from crawlers.recognition.pipeline_inspection import read_config
from crawlers.recognition.trigger_words import card_trigger_words, counted_trigger_word, placeholder_token
from manifests.generator import BasePipeline, GeneratorSpec, WeightFile

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

_README_LIMIT = 64 * 2**10
"""Bytes of a card's text that are read; what is asked of it stands near its top."""


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
    readme = _read_readme(client, info, files)
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
    found = _find_base(client, info, files, package, bases, spec, lookup, notes)
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
    pinned = _pinned(package, base, named)
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
            _trigger_words(client, info, files, package, card, readme),
            base.info.id,
            base.card or {},
        ),
    )
    params = resolve_parameters(evidence)
    own_type = package.header.main_dtype
    weights = [(file, own_type) for file in package.files] + [
        (file, variant_dtype(file.path) or lookup.dtype(base)) for file in pinned.files
    ]
    look.fields |= {
        "base": pinned,
        "params": params,
        "kind": match.kind,
        "family": match.family,
        "architecture": match.architecture,
        "family_evidence": f"base {base.info.id} ({named.source}); {match.evidence}",
        "weight_bytes": look.fields["weight_bytes"] + sum(file.size for file in pinned.files),
        "gpu_memory_bytes": gpu_memory_bytes(family, params, configs, weights),
    }
    look.verdict = Verdict(detail="; ".join(notes) or None)
    return look


def _find_base(
    client: HubClient,
    info: "ModelInfo",
    files: list[WeightFile],
    package: Package,
    bases: tuple[str, ...],
    spec: GeneratorSpec | None,
    lookup: BaseLookup,
    notes: list[str],
) -> tuple[NamedBase, BaseLook] | Verdict:
    """Return the base that counts, or why there is none.

    The first that is named decides, whatever became of it: another's weights would make other images. Of a checkpoint
    that holds the whole model, only configs come from the base, so there the next one named will do.
    """
    named = name_bases(
        spec.base if spec is not None else None,
        bases,
        _adapter_config(client, info, files, package),
        package.header.metadata,
        family_of_config(package.config) or package.contents.family,
    )
    if not named:
        return Verdict("no_base", f"{package.contents.what}, and nothing says for which base")
    first: Verdict | None = None
    for candidate in named if package.packaging == "single-file" else named[:1]:
        said: list[str] = []
        moved = resolve_alias(candidate.pipeline.repo_id, lookup.known, said)
        base = lookup.find(candidate.pipeline.model_copy(update={"repo_id": moved}))
        problem = misfit(package, base) if base.verdict.eligible else None
        if base.verdict.eligible and problem is None:
            if first is not None:
                notes.append(f"configs of {moved} ({candidate.source}), since {first.detail}")
            notes += said
            return candidate, base
        problem = problem or ": ".join(filter(None, (base.verdict.reason, base.verdict.detail)))
        first = first or Verdict("no_base", f"{moved} ({candidate.source}): {problem}")
    assert first is not None
    return first


def _pinned(package: Package, base: BaseLook, named: NamedBase) -> BasePipeline:
    """Return the base at its commit, with those of its weights that the package does not bring itself."""
    assert base.info is not None and base.look.index is not None and base.look.plan is not None
    index, plan = base.look.index, base.look.plan
    replaced = package.contents.holds if package.packaging == "single-file" else {package.component}
    folders = {index.path(part) for part in replaced if part is not None}
    files = tuple(file for file in plan.files if file.path.rsplit("/", 1)[0] not in folders)
    return BasePipeline(
        repo_id=base.info.id,
        revision=base.info.sha,
        subfolder=index.folder or None,
        variant=plan.variant,
        pipeline_class=index.pipeline_class,
        files=files,
    )


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


def _adapter_config(
    client: HubClient, info: "ModelInfo", files: list[WeightFile], package: Package
) -> Mapping[str, Any]:
    """Return peft's adapter_config.json beside the adapter; nothing where it is none."""
    if package.packaging != "lora" or package.weight_name is None:
        return {}
    folder = package.weight_name.rpartition("/")[0]
    path = f"{folder}/adapter_config.json" if folder else "adapter_config.json"
    if all(file.path != path or file.size > CONFIG_LIMIT for file in files):
        return {}
    try:
        config = read_config(client, info, path)
    except BadModelIndexError:
        return {}
    return config if isinstance(config, dict) else {}


def _trigger_words(
    client: HubClient,
    info: "ModelInfo",
    files: list[WeightFile],
    package: Package,
    card: Mapping[str, Any],
    readme: str,
) -> tuple[tuple[str, ...], str] | None:
    if package.packaging == "textual-inversion":
        identifier = _read_text(client, info, files, "token_identifier.txt")
        token, source = placeholder_token(package.contents.token, identifier, package.weight_name or "")
        return (token,), source
    if package.packaging != "lora":
        return None
    if words := card_trigger_words(card, readme):
        return words, "card"
    if words := counted_trigger_word(package.header.metadata):
        return words, "metadata"
    return None


def _read_readme(client: HubClient, info: "ModelInfo", files: list[WeightFile]) -> str:
    return _read_text(client, info, files, "README.md") or ""


def _read_text(client: HubClient, info: "ModelInfo", files: list[WeightFile], path: str) -> str | None:
    """Return the beginning of a text file; None where there is none or the hub does not give it.

    Raises:
        HubUnreachableError, ClientClosedError: nobody answers, or waits for it, any more.
    """
    file = next((file for file in files if file.path == path), None)
    if file is None or file.size == 0:
        return None
    try:
        body = client.read_range(info.id, info.sha or "main", path, 0, min(file.size, _README_LIMIT))
    except (HubUnreachableError, ClientClosedError):
        raise
    except HubError:
        return None
    return body.decode("utf-8", errors="replace")
