"""Which diffusers pipelines make images from a prompt, a class or nothing, and which arguments their call takes.

`_class_name` of model_index.json decides: `AutoPipelineForText2Image` lacks several of these. Read from the signatures
of diffusers 0.42. A class that is not here cannot be sampled: it wants an input image, makes video or sound, or is
only a part of a pipeline.
"""

from dataclasses import dataclass

from manifests.generator import GeneratorKind, Packaging

ALL_ARGUMENTS = frozenset({"steps", "guidance_scale", "size", "negative_prompt"})
_NO_NEGATIVE = ALL_ARGUMENTS - {"negative_prompt"}
_NO_GUIDANCE = ALL_ARGUMENTS - {"guidance_scale"}


@dataclass(frozen=True)
class PipelineClass:
    """A pipeline that can be sampled.

    Attributes:
        family: key of `crawlers.parameters.families.FAMILIES`, before configs and names refine it.
        takes: which of steps, guidance_scale, size and negative_prompt its call accepts.
    """

    kind: GeneratorKind
    family: str
    takes: frozenset[str] = ALL_ARGUMENTS


def _text(family: str, takes: frozenset[str] = ALL_ARGUMENTS) -> PipelineClass:
    return PipelineClass("text-to-image", family, takes)


def _unconditional(family: str) -> PipelineClass:
    return PipelineClass("unconditional", family, frozenset({"steps"}))


PIPELINE_CLASSES: dict[str, PipelineClass] = {
    "StableDiffusionPipeline": _text("sd1"),
    "StableDiffusionPAGPipeline": _text("sd1"),
    "AltDiffusionPipeline": _text("altdiffusion"),
    "LatentConsistencyModelPipeline": _text("lcm", _NO_NEGATIVE),
    "StableDiffusionXLPipeline": _text("sdxl"),
    "StableDiffusionXLPAGPipeline": _text("sdxl"),
    "StableDiffusion3Pipeline": _text("sd3"),
    "StableDiffusion3PAGPipeline": _text("sd3"),
    "KolorsPipeline": _text("kolors"),
    "KolorsPAGPipeline": _text("kolors"),
    "FluxPipeline": _text("flux1-dev"),
    "Flux2Pipeline": _text("flux2", _NO_NEGATIVE),
    "Flux2KleinPipeline": _text("flux2-klein-base", _NO_NEGATIVE),
    "ChromaPipeline": _text("chroma"),
    "PixArtAlphaPipeline": _text("pixart-alpha"),
    "PixArtSigmaPipeline": _text("pixart-sigma"),
    "PixArtSigmaPAGPipeline": _text("pixart-sigma"),
    "SanaPipeline": _text("sana"),
    "SanaPAGPipeline": _text("sana"),
    "SanaSprintPipeline": _text("sana-sprint", _NO_NEGATIVE),
    "PRXPipeline": _text("prx"),
    "HunyuanDiTPipeline": _text("hunyuan-dit"),
    "HunyuanDiTPAGPipeline": _text("hunyuan-dit"),
    "HunyuanImagePipeline": _text("hunyuan-image", _NO_GUIDANCE),
    "AuraFlowPipeline": _text("auraflow"),
    "HiDreamImagePipeline": _text("hidream"),
    "QwenImagePipeline": _text("qwen-image", _NO_GUIDANCE),
    "ZImagePipeline": _text("z-image"),
    "LuminaPipeline": _text("lumina-next"),
    "LuminaText2ImgPipeline": _text("lumina-next"),
    "Lumina2Pipeline": _text("lumina2"),
    "Lumina2Text2ImgPipeline": _text("lumina2"),
    "CogView3PlusPipeline": _text("cogview3"),
    "CogView4Pipeline": _text("cogview4"),
    "OvisImagePipeline": _text("ovis-image"),
    "LongCatImagePipeline": _text("longcat-image"),
    "BriaPipeline": _text("bria"),
    "OmniGenPipeline": _text("omnigen", _NO_NEGATIVE),
    "Kandinsky3Pipeline": _text("kandinsky3"),
    "Kandinsky5T2IPipeline": _text("kandinsky5"),
    "IFPipeline": _text("deepfloyd-if"),
    "UnCLIPPipeline": _text("unclip", frozenset()),
    "LDMTextToImagePipeline": _text("ldm-text", _NO_NEGATIVE),
    "VQDiffusionPipeline": _text("vq-diffusion", frozenset({"steps", "guidance_scale"})),
    "AmusedPipeline": _text("amused"),
    "DiTPipeline": PipelineClass("class-conditional", "dit", frozenset({"steps", "guidance_scale"})),
    "DDPMPipeline": _unconditional("ddpm"),
    "DDIMPipeline": _unconditional("ddim"),
    "PNDMPipeline": _unconditional("pndm"),
    "LDMPipeline": _unconditional("ldm"),
    "ScoreSdeVePipeline": _unconditional("score-sde"),
    "KarrasVePipeline": _unconditional("karras-ve"),
    "ConsistencyModelPipeline": _unconditional("consistency"),
}

NEEDS_ANOTHER_REPO: dict[str, str] = {
    "KandinskyCombinedPipeline": "its prior is in another repo",
    "KandinskyV22CombinedPipeline": "its prior is in another repo",
    "StableCascadeCombinedPipeline": "its prior is in another repo",
    "WuerstchenCombinedPipeline": "its prior is in another repo",
    "KandinskyPipeline": "a decoder: its prior is in another repo",
    "KandinskyV22Pipeline": "a decoder: its prior is in another repo",
    "StableCascadeDecoderPipeline": "a decoder: its prior is in another repo",
    "WuerstchenDecoderPipeline": "a decoder: its prior is in another repo",
    "StableCascadePriorPipeline": "a prior without its decoder",
    "WuerstchenPriorPipeline": "a prior without its decoder",
    "KandinskyPriorPipeline": "a prior without its decoder",
    "KandinskyV22PriorPipeline": "a prior without its decoder",
}
"""Why some text-to-image pipelines cannot be sampled from their repo alone."""

OFTEN_ELSEWHERE: dict[str, str] = {"HiDreamImagePipeline": "text_encoder_4"}
"""Networks that a pipeline's call cannot do without, and that its authors leave to another repo: HiDream's Llama."""

_STABLE_DIFFUSION = frozenset(
    {
        "StableDiffusionPipeline",
        "StableDiffusionPAGPipeline",
        "AltDiffusionPipeline",
        "LatentConsistencyModelPipeline",
        "StableDiffusionXLPipeline",
        "StableDiffusionXLPAGPipeline",
    }
)
_STABLE_DIFFUSION_3 = frozenset({"StableDiffusion3Pipeline", "StableDiffusion3PAGPipeline"})

LOADS: dict[Packaging, frozenset[str]] = {
    "lora": _STABLE_DIFFUSION
    | _STABLE_DIFFUSION_3
    | {
        "KolorsPipeline",
        "KolorsPAGPipeline",
        "FluxPipeline",
        "Flux2Pipeline",
        "Flux2KleinPipeline",
        "ChromaPipeline",
        "PRXPipeline",
        "SanaPipeline",
        "SanaSprintPipeline",
        "AuraFlowPipeline",
        "HiDreamImagePipeline",
        "QwenImagePipeline",
        "ZImagePipeline",
        "Lumina2Pipeline",
        "Lumina2Text2ImgPipeline",
        "CogView4Pipeline",
        "Kandinsky3Pipeline",
        "Kandinsky5T2IPipeline",
        "IFPipeline",
    },
    "textual-inversion": _STABLE_DIFFUSION | {"FluxPipeline", "ChromaPipeline", "PRXPipeline"},
    "single-file": _STABLE_DIFFUSION
    | _STABLE_DIFFUSION_3
    | {"FluxPipeline", "ChromaPipeline", "PRXPipeline", "ZImagePipeline", "LongCatImagePipeline"},
}
"""The classes that can be given a LoRA, learned tokens, or a checkpoint of the whole model in one file."""
