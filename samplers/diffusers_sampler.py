"""The engine that all diffusers kinds share: one padded batch in, images out, the same bytes every time.

Each slot has a noise generator of its own, on the CPU, so that a slot's noise depends neither on its neighbours nor on
the device. Schedulers start each batch from a fresh copy, and the global generators are seeded, for the few pipelines
that draw from them: so a batch can be replayed alone.
"""

import copy
import random
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import diffusers
import numpy as np
import torch

from manifests.draws import Draw
from manifests.generator import GeneratorSpec
from samplers.base import Batch, SampledImage
from samplers.call_arguments import bind_arguments, canonical, scheduler_record
from samplers.call_sources import value_sources
from samplers.failures import sampling_failures
from samplers.loading import LoadedPipeline
from samplers.pixels import images_from_output
from samplers.prompt_truncation import SentPrompt
from shards.statuses import Reason, UnitFailure


class DiffusersSampler(ABC):
    """A loaded pipeline. A kind says which arguments it supplies, and what they are for a batch."""

    supplied: ClassVar[frozenset[str]]
    """Arguments of the call that `conditioning` gives; the parameters cannot set them."""
    needed: ClassVar[str]
    """The one of them that the call must take for the pipeline to be of this kind."""

    def __init__(self, spec: GeneratorSpec, loaded: LoadedPipeline) -> None:
        """Fit the spec's parameters to the pipeline's call.

        Raises:
            UnitFailure: call_signature.
        """
        self._pipeline: Any = loaded.pipeline
        self._options = loaded.options
        self._release = loaded.release
        self._arguments = bind_arguments(loaded.pipeline.__call__, spec.params, self.supplied)
        for name in (self.needed, "generator"):
            if not self._arguments.accepts(name):
                raise UnitFailure(Reason.call_signature, f"a {spec.kind} pipeline must take {name!r}")
        self._schedulers = {
            name: component
            for name, component in loaded.pipeline.components.items()
            if isinstance(component, diffusers.SchedulerMixin)
        }
        complete = self._arguments.complete
        self.steps: int | None = complete.get("num_inference_steps")
        guidance = complete.get("guidance_scale")
        self.guidance_scale: float | None = None if guidance is None else float(guidance)
        self.width: int | None = complete.get("width")
        self.height: int | None = complete.get("height")
        self.negative_prompt: str | None = (
            spec.params.negative_prompt if self._arguments.accepts("negative_prompt") else None
        )
        self.watermark: bool | None = False  # No watermarker is loaded, and SDXL's is switched off.
        self.compiled: bool = bool(loaded.options.get("compiled"))
        main = self._schedulers.get("scheduler")
        self.scheduler_name = type(main).__name__ if main is not None else None
        self._sources = value_sources(
            spec,
            self._arguments.names,
            complete,
            scheduler=main is not None,
            adapter="scale" in loaded.options.get("adapter", {}),
        )

    @abstractmethod
    def conditioning(self, batch: Batch) -> dict[str, Any]:
        """Return the arguments that say what to make, one value for each slot."""

    @abstractmethod
    def sent(self, draw: Draw) -> SentPrompt | None:
        """Return what the model saw of the draw's prompt; None when it takes none."""

    def settled(self, draw: Draw, replaced: Draw | None = None) -> Draw:
        """Return `draw` as it is: nothing of it is left to the model."""
        return draw

    def check_effect(self) -> None:  # noqa: B027 - only adapters have something to make sure of
        """Nothing to make sure of: a pipeline that stands for itself shows in its images."""

    def sample(self, batch: Batch) -> list[SampledImage]:
        """Return one image for each wanted slot of `batch`, in order.

        Raises:
            UnitFailure: device_oom, host_oom or sampling_error.
        """
        self._reset(batch.draws[0].seed)
        arguments: dict[str, Any] = {
            **self._arguments.given,
            **self.conditioning(batch),
            "generator": [torch.Generator("cpu").manual_seed(draw.seed) for draw in batch.draws],
        }
        if self._arguments.accepts("output_type"):
            arguments["output_type"] = "pt"
        with sampling_failures(type(self._pipeline).__name__), torch.no_grad():
            images = images_from_output(self._pipeline(**arguments).images, batch.real)
            sent = [self.sent(draw) for draw in batch.draws[: batch.real]]
        return [
            SampledImage(
                image=image,
                raw_issue=Reason.nan if image is None else None,
                prompt_sent=prompt.text if prompt else None,
                truncated=prompt.truncated if prompt else False,
            )
            for image, prompt in zip(images, sent, strict=True)
        ]

    def call_record(self, batch_size: int) -> str:
        """Return the JSON object {pipeline_class, load, call, scheduler, sources, batch_size} of the dataset's rows."""
        main = self._schedulers.get("scheduler")
        others = {name: scheduler_record(s) for name, s in self._schedulers.items() if name != "scheduler"}
        record: dict[str, Any] = {
            "pipeline_class": type(self._pipeline).__name__,
            "load": self._options,
            "call": self._arguments.complete,
            "scheduler": scheduler_record(main) if main is not None else None,
            "sources": self._sources,
            "batch_size": batch_size,
        }
        return canonical(record | ({"other_schedulers": others} if others else {}))

    def close(self) -> None:
        """Drop the pipeline, leave shared modules as they were before it, and give its GPU memory back."""
        self._release()
        self._pipeline = None
        self._schedulers = {}
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _reset(self, seed: int) -> None:
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        for name, scheduler in self._schedulers.items():
            setattr(self._pipeline, name, copy.deepcopy(scheduler))
