"""Which sampler makes the images of which kind of generator. A new kind is one file and one line here."""

from pathlib import Path

from manifests.generator import Dtype, GeneratorSpec
from samplers.adapted_text_to_image import AdaptedTextToImageSampler
from samplers.base import Sampler
from samplers.class_conditional import ClassConditionalSampler
from samplers.component_store import ComponentStore
from samplers.diffusers_sampler import DiffusersSampler
from samplers.loading import load_pipeline
from samplers.placement import Placement
from samplers.text_to_image import TextToImageSampler
from samplers.unconditional import UnconditionalSampler
from shards.statuses import Reason, UnitFailure

SAMPLERS: dict[str, type[DiffusersSampler]] = {
    "text-to-image": TextToImageSampler,
    "class-conditional": ClassConditionalSampler,
    "unconditional": UnconditionalSampler,
}


def load_sampler(
    spec: GeneratorSpec,
    folder: Path,
    *,
    dtype: Dtype,
    device: str,
    components: ComponentStore,
    base_folder: Path | None = None,
    placement: Placement | None = None,
) -> Sampler:
    """Load `spec` from `folder`, its repo's files at the pinned revision, onto `device`.

    `spec.dtype` wins over `dtype`. Components that other generators share are taken from `components`, and so is the
    base of an adapter, whose files are in `base_folder`; it is the base again once the sampler is closed.
    `placement` says how the pipeline runs on its device; None: all of it lies on `device`.

    Raises:
        UnitFailure: load_failed, unsupported, adapter_no_effect or oom, with the reason and what was found.
    """
    if spec.packaging != "pipeline" and spec.kind != "text-to-image":
        raise UnitFailure(Reason.call_signature, f"a {spec.packaging} of a {spec.kind} pipeline cannot be sampled")
    loaded = load_pipeline(
        spec, folder, dtype=dtype, device=device, components=components, base_folder=base_folder, placement=placement
    )
    sampler = SAMPLERS[spec.kind] if loaded.adapter is None else AdaptedTextToImageSampler
    try:
        return sampler(spec, loaded)
    except BaseException:
        loaded.release()
        raise
