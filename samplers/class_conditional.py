"""Pipelines that take class numbers, as DiT does."""

from typing import Any

from manifests.draws import Draw
from manifests.generator import GeneratorSpec
from samplers.base import Batch
from samplers.class_turns import ClassTurns
from samplers.diffusers_sampler import DiffusersSampler
from samplers.loading import LoadedPipeline
from samplers.prompt_truncation import SentPrompt
from shards.statuses import Reason, UnitFailure

_IMAGENET_CLASSES = 1000


class ClassConditionalSampler(DiffusersSampler):
    """One image for each class.

    A draw's `class_label` is a class number or one of the model's own labels. Without one, a prompt that is such a
    label counts; any other draw gets the class whose turn it is by the draw's number, so that all classes get equally
    many images (see ClassTurns). A reserve draw gets the class of the draw that it replaces.
    """

    supplied = frozenset({"class_labels"})
    needed = "class_labels"

    def __init__(self, spec: GeneratorSpec, loaded: LoadedPipeline) -> None:
        super().__init__(spec, loaded)
        self._labels: dict[str, int] = dict(getattr(loaded.pipeline, "labels", {}))
        self._names: dict[int, str] = {}
        for label, number in sorted(self._labels.items()):
            self._names.setdefault(number, label)
        transformer = getattr(loaded.pipeline, "transformer", None)
        self._classes: int = getattr(getattr(transformer, "config", None), "num_embeds_ada_norm", _IMAGENET_CLASSES)
        self._turns = ClassTurns(spec.name, self._classes)

    def settled(self, draw: Draw, replaced: Draw | None = None) -> Draw:
        """Return `draw` with its class as `class_label`: the model's label where it has one, else the number.

        A reserve draw takes the class of the target draw that it replaces. Where that was no good either, the next has
        a turn of its own: a class that is always flagged would use up the reserve of all others.

        Raises:
            UnitFailure: call_signature, when the draw asks for a class that the model does not have.
        """
        asks = draw.class_label is not None or draw.prompt in self._labels
        stands_in = replaced is not None and replaced.index >= 0 and not asks
        number = self.class_number(replaced if replaced is not None and stands_in else draw)
        return draw.model_copy(update={"class_label": self._names.get(number, str(number))})

    def conditioning(self, batch: Batch) -> dict[str, Any]:
        """The class numbers."""
        return {"class_labels": [self.class_number(draw) for draw in batch.draws]}

    def sent(self, draw: Draw) -> SentPrompt | None:
        """The class number and, where the model names it, the label: `207 golden retriever`."""
        number = self.class_number(draw)
        return SentPrompt(" ".join(filter(None, (str(number), self._names.get(number)))), truncated=False)

    def class_number(self, draw: Draw) -> int:
        """Return the class that a draw stands for.

        Raises:
            UnitFailure: call_signature, when the draw asks for a class that the model does not have.
        """
        asked = draw.class_label
        if asked is None:
            named = self._labels.get(draw.prompt)
            return self._turns.class_of(draw.index) if named is None else named
        if asked in self._labels:
            return self._labels[asked]
        if asked.isdecimal() and int(asked) < self._classes:
            return int(asked)
        raise UnitFailure(Reason.call_signature, f"the model has no class {asked!r}")
