"""Which sampler makes the images of which kind of generator. A new kind is one file and one line here."""

from pathlib import Path

from manifests.generator import Dtype, GeneratorSpec
from samplers.base import Sampler
from samplers.class_conditional import ClassConditionalSampler
from samplers.component_store import ComponentStore
from samplers.diffusers_sampler import DiffusersSampler
from samplers.loading import load_pipeline
from samplers.text_to_image import TextToImageSampler
from samplers.unconditional import UnconditionalSampler

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
) -> Sampler:
    """Load `spec` from `folder`, its repo's files at the pinned revision, onto `device`.

    `spec.dtype` wins over `dtype`. Components that other generators share are taken from `components`.

    Raises:
        UnitFailure: load_failed, unsupported or oom, with the reason and what was found.
    """
    sampler = SAMPLERS[spec.kind]
    return sampler(spec, load_pipeline(spec, folder, dtype=dtype, device=device, components=components))
