"""How a generator lies in a repo that has no whole pipeline: a component, a checkpoint, a LoRA or learned tokens.

File names only say where to look first; what a file is, its header says.
"""

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crawlers.hub.hub_client import HubClient
from crawlers.recognition.eligibility import Verdict
from crawlers.recognition.layout import LayoutError, describe_without_index, plan_model
from crawlers.recognition.model_index import BadModelIndexError
from crawlers.recognition.pipeline_inspection import read_config
from crawlers.recognition.safetensors_header import BadHeaderError, SafetensorsHeader, read_header
from crawlers.recognition.weight_contents import Kind, WeightContents, tell_contents
from manifests.generator import Packaging, WeightFile

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

_PACKAGINGS: Mapping[Kind, Packaging] = {
    "checkpoint": "single-file",
    "denoiser": "component",
    "lora": "lora",
    "embedding": "textual-inversion",
}
_COMPONENT_FOLDERS = ("", "unet", "transformer")
_CANONICAL = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors", "learned_embeds.safetensors")
_HEADERS_READ = 6
_NAMED_IN_DETAIL = 5
_INTERMEDIATE = re.compile(r"[-_](?:e|s|steps?|epoch|checkpoint)?[-_]?(\d{2,})(?:[-_]?(?:steps?|epochs?))?$", re.I)
_FEW_STEPS = re.compile(r"(?<!\d)(\d{1,2})[-_ ]?steps?(?![a-z])", re.I)
_USUAL_FEW_STEPS = (4, 8)
_NO_WEIGHTS = re.compile(r"(optimizer|scheduler|random_states|rng_state|training_args)", re.I)
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.")
_PICKLE = re.compile(r"\.(bin|ckpt|pt|pth)$")
_HINT = re.compile(r"""weight_name\s*=\s*["']([^"'\n]{1,200}\.safetensors)["']""")


@dataclass(frozen=True)
class Package:
    """What a repo without a pipeline holds.

    Attributes:
        files: what of it is to be downloaded.
        weight_name: the one file that was chosen; None for a component in the libraries' own layout.
        component: of a base pipeline, which this takes the place of.
        variant: that the component is to be loaded with.
        config: the component's own.
        notes: on the choice, for the catalog's detail.
    """

    packaging: Packaging
    files: tuple[WeightFile, ...]
    contents: WeightContents
    header: SafetensorsHeader
    weight_name: str | None = None
    component: str | None = None
    subfolder: str | None = None
    variant: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def recognise(
    client: HubClient,
    info: "ModelInfo",
    files: Sequence[WeightFile],
    *,
    card: Mapping[str, Any],
    readme: str = "",
    weight_name: str | None = None,
    packaging: Packaging | None = None,
) -> Package | Verdict:
    """Return what the repo holds, or why that is nothing that can be sampled.

    A component in its own layout comes first, then the files in the order of `choose`, until one is a generator.

    Args:
        readme: the card's text, which may name the file to load.
        weight_name: the manifest's choice: this file and no other.
        packaging: the manifest's word for what it is; anything else is passed over.

    Raises:
        HubError: the hub did not give a file.
    """
    if weight_name is not None and all(file.path != weight_name for file in files):
        return Verdict("no_model_index", f"{weight_name} is not in the repo")
    if weight_name is None and packaging in (None, "component"):
        found = _component(client, info, files)
        if found is not None:
            return found
    candidates = choose(files, info.id, card=card, readme=readme)
    if weight_name is not None:
        candidates = [file for file in files if file.path == weight_name]
    passed_over = []
    for file in candidates[:_HEADERS_READ]:
        try:
            header = read_header(client, info.id, info.sha or "main", file)
        except BadHeaderError as error:
            passed_over.append(str(error))
            continue
        contents = tell_contents(header)
        found_packaging = _PACKAGINGS.get(contents.kind)
        if found_packaging is None or packaging not in (None, found_packaging):
            passed_over.append(f"{file.path}: {contents.what}")
            continue
        others = [other.path for other in candidates if other is not file]
        component = contents.denoiser if contents.holds == {contents.denoiser} else None
        notes = (_others(file, others),) if others else ()
        return Package(
            found_packaging, (file,), contents, header, weight_name=file.path, component=component, notes=notes
        )
    return _nothing(files, passed_over)


def choose(files: Sequence[WeightFile], repo_id: str, *, card: Mapping[str, Any], readme: str = "") -> list[WeightFile]:
    """Return the files that may be a generator, the one to take first.

    In this order of importance: the file that the card names (`weight_name` of its front matter or of the code in its
    text); files at the root before those of folders, which trainers keep intermediate states in; the names that the
    libraries look for; a finished file before one that is numbered by step or epoch, and then the last of these;
    of files distilled for a number of steps, that for the usual four or eight; the file that is called like its repo;
    the largest, so of several ranks the highest, and a checkpoint before an extract of it; the name.
    """
    named = {name for name in (card.get("weight_name"), *_HINT.findall(readme)) if isinstance(name, str)}
    repo_name = repo_id.rsplit("/", 1)[-1].lower()

    def order(file: WeightFile) -> tuple[Any, ...]:
        folder, name = posixpath.split(file.path)
        stem = name.removesuffix(".safetensors")
        number = _INTERMEDIATE.search(stem)
        at = re.search(r"checkpoint-(\d+)", folder)
        step = int(at[1]) if at else int(number[1]) if number and not _FEW_STEPS.search(stem) else None
        few = _FEW_STEPS.search(stem)
        return (
            file.path not in named and name not in named,
            folder.count("/") + bool(folder),
            _CANONICAL.index(name) if name in _CANONICAL else len(_CANONICAL),
            step is not None,
            -(step or 0),
            _USUAL_FEW_STEPS.index(int(few[1])) if few and int(few[1]) in _USUAL_FEW_STEPS else 2 if few else 0,
            stem.lower() != repo_name,
            -file.size,
            file.path,
        )

    return sorted(
        (
            file
            for file in files
            if file.path.endswith(".safetensors") and not _NO_WEIGHTS.search(file.path) and not _SHARD.search(file.path)
        ),
        key=order,
    )


def _component(client: HubClient, info: "ModelInfo", files: Sequence[WeightFile]) -> Package | Verdict | None:
    """Return a UNet or transformer that lies in diffusers' own layout, at the root or in its folder."""
    paths = {file.path for file in files}
    for folder in _COMPONENT_FOLDERS:
        path = posixpath.join(folder, "config.json")
        if path not in paths or not any(
            f.path.startswith(posixpath.join(folder, "diffusion_pytorch_model")) for f in files
        ):
            continue
        try:
            config = read_config(client, info, path)
        except BadModelIndexError as error:
            return Verdict("no_model_index", str(error))
        class_name = config.get("_class_name") if isinstance(config, dict) else None
        component = component_of(class_name)
        if component is None:
            if folder:
                continue
            return Verdict("no_model_index", f"looks like a single component ({class_name}), which makes no image")
        try:
            plan = plan_model(files, folder, library="diffusers")
        except LayoutError as problem:
            return Verdict(problem.reason, problem.detail)
        first = next(file for file in plan.files if file.path.endswith(".safetensors"))
        try:
            header = read_header(client, info.id, info.sha or "main", first)
        except BadHeaderError as error:
            return Verdict("no_model_index", f"looks like a single component ({class_name}): {error}")
        return Package(
            "component",
            plan.files,
            tell_contents(header),
            header,
            component=component,
            subfolder=folder or None,
            variant=plan.variant,
            config=config,
        )
    return None


def component_of(class_name: Any) -> str | None:
    """Return the name that a denoiser of this class has in pipelines; None for what is no denoiser of images."""
    if not isinstance(class_name, str) or re.search(r"ControlNet|Motion|3D|Spatio|Video|Adapter", class_name):
        return None
    if class_name in ("UNet2DConditionModel", "Kandinsky3UNet"):
        return "unet"
    return "transformer" if class_name.endswith(("Transformer2DModel", "Transformer2DModelKontext")) else None


_FAMILY_BY_CLASS = {
    "SD3Transformer2DModel": "sd3",
    "Flux2Transformer2DModel": "flux2",
    "ChromaTransformer2DModel": "chroma",
    "AuraFlowTransformer2DModel": "auraflow",
    "Lumina2Transformer2DModel": "lumina2",
    "QwenImageTransformer2DModel": "qwen-image",
    "ZImageTransformer2DModel": "z-image",
}


def family_of_config(config: Mapping[str, Any]) -> str | None:
    """Return the family of a component by its own config, for the base that is meant when none is named."""
    class_name = config.get("_class_name")
    if component_of(class_name) is None:
        return None
    if class_name == "FluxTransformer2DModel":
        return "flux1-dev" if config.get("guidance_embeds") else "flux1-schnell"
    return _FAMILY_BY_CLASS.get(str(class_name))


def _others(chosen: WeightFile, others: Sequence[str]) -> str:
    shown = ", ".join(others[:_NAMED_IN_DETAIL])
    rest = len(others) - _NAMED_IN_DETAIL
    return f"{chosen.path} chosen; the repo also has {shown}" + (f" and {rest} more" if rest > 0 else "")


def _nothing(files: Sequence[WeightFile], passed_over: Sequence[str]) -> Verdict:
    paths = [file.path for file in files]
    looks_like = describe_without_index(paths)
    if passed_over:
        return Verdict("no_model_index", "; ".join((looks_like, *passed_over[:2])))
    pickles = [path for path in paths if _PICKLE.search(path) and not _NO_WEIGHTS.search(path)]
    if pickles and not any(path.endswith(".safetensors") for path in paths):
        return Verdict("pickle_only", f"{looks_like}; {min(pickles)} is a pickle, and there are no safetensors")
    return Verdict("no_model_index", looks_like)
