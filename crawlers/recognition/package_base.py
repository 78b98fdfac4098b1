"""The base that a repo without a pipeline of its own is loaded into: the one that counts, and what is needed of it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from crawlers.hub.hub_client import CONFIG_LIMIT, HubClient
from crawlers.recognition.base_fit import misfit
from crawlers.recognition.base_resolution import BaseLook, BaseLookup, NamedBase, name_bases
from crawlers.recognition.eligibility import Verdict
from crawlers.recognition.lineage import resolve_alias
from crawlers.recognition.model_index import BadModelIndexError
from crawlers.recognition.packaging import Package, family_of_config
from crawlers.recognition.pipeline_inspection import read_config
from manifests.generator import BasePipeline, GeneratorSpec, WeightFile

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo


def find_base(
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


def pinned_base(package: Package, base: BaseLook, named: NamedBase) -> BasePipeline:
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
