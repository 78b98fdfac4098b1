"""Pipelines that take nothing but noise, as DDPM does."""

from typing import Any

from manifests.draws import Draw
from samplers.base import Batch
from samplers.diffusers_sampler import DiffusersSampler
from samplers.prompt_truncation import SentPrompt


class UnconditionalSampler(DiffusersSampler):
    """As many images as the batch has slots."""

    supplied = frozenset({"batch_size"})
    needed = "batch_size"

    def conditioning(self, batch: Batch) -> dict[str, Any]:
        """The number of slots."""
        return {"batch_size": len(batch.draws)}

    def sent(self, draw: Draw) -> SentPrompt | None:
        """None: there is no prompt."""
        return None
