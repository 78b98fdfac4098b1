"""Learned tokens for a base's text encoders: the tokenizer gets a word, the embedding matrix a row for each vector.

The tokenizers are copies and the matrix is written into a copy, so the base's own stay what they were. Switched off,
the word is plain text again: what the base makes of the same prompt without having learned it.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from diffusers.loaders import TextualInversionLoaderMixin
from torch import nn

from manifests.generator import GeneratorSpec
from samplers.adapters import adapter_file
from samplers.failures import load_failures
from samplers.module_loading import quiet
from shards.statuses import Reason, UnitFailure

_ENCODERS = {"clip_l": ("tokenizer", "text_encoder"), "clip_g": ("tokenizer_2", "text_encoder_2")}
"""Key of a file with vectors for both encoders of SDXL -> the components that they are for."""
_NAMELESS = "emb_params"
"""The key of files whose word is not in them but in the file's name."""


def teachable(pipeline_class: type) -> tuple[str, ...]:
    """Return the names of the text encoders that a textual inversion of this pipeline may change.

    Raises:
        UnitFailure: call_signature, when the class takes none.
    """
    if not issubclass(pipeline_class, TextualInversionLoaderMixin):
        raise UnitFailure(Reason.call_signature, f"{pipeline_class.__name__} takes no textual inversion")
    return tuple(encoder for _, encoder in _ENCODERS.values())


class TextualInversion:
    """Learned tokens that a pipeline knows. `token` is the word that stands for them in a prompt."""

    def __init__(self, spec: GeneratorSpec, folder: Path, pipeline: Any) -> None:
        """Teach the pipeline the vectors of `folder`, under the first trigger word of `spec` or the file's own word.

        Raises:
            UnitFailure: no_keys_loaded when no vector is as wide as the base's; invalid_pipeline when the base already
                has the word, or the file is none of the known kinds; missing_file, corrupt_weights.
        """
        quiet()
        teachable(type(pipeline))
        file = adapter_file(folder, spec.weight_name, "embedding")
        with load_failures(f"embedding {file.name}"):
            tensors = safetensors.torch.load_file(file)
        words = spec.params.trigger_words or (_own_word(tensors, file),)
        self.token = words[0]
        fitting, ignored = _fitting(tensors, pipeline, file)
        self._pipeline = pipeline
        self._plain = {name: getattr(pipeline, name) for name, _, _ in fitting}
        for tokenizer, encoder, vectors in fitting:
            self._teach(tokenizer, getattr(pipeline, encoder), vectors, file)
        self._taught = {name: getattr(pipeline, name) for name in self._plain}
        self.record: dict[str, Any] = {
            "weight_name": file.relative_to(folder).as_posix(),
            "trigger_words": list(words),
            "adapter": {
                "vectors": {encoder: 1 if vectors.ndim == 1 else len(vectors) for _, encoder, vectors in fitting},
                "loaded_keys": len(fitting),
                "ignored_keys": ignored,
            },
        }

    @contextmanager
    def off(self) -> Iterator[None]:
        """Give the pipeline the tokenizers that never learned the word; the new rows are then never looked up."""
        self._use(self._plain)
        try:
            yield
        finally:
            self._use(self._taught)

    def _use(self, tokenizers: dict[str, Any]) -> None:
        for name, tokenizer in tokenizers.items():
            setattr(self._pipeline, name, tokenizer)

    def _teach(self, name: str, encoder: Any, vectors: torch.Tensor, file: Path) -> None:
        learner = copy.deepcopy(self._plain[name])
        setattr(self._pipeline, name, learner)
        # The matrix may already have rows to spare; then it would be written to in place, which the base must not see.
        matrix = encoder.get_input_embeddings()
        matrix.weight = nn.Parameter(matrix.weight.detach().clone(), requires_grad=False)
        with load_failures(f"embedding {file.name}"), torch.random.fork_rng(devices=[]):
            self._pipeline.load_textual_inversion(
                {self.token: vectors.to(matrix.weight)}, token=self.token, tokenizer=learner, text_encoder=encoder
            )
        encoder.requires_grad_(False)


def _own_word(tensors: dict[str, torch.Tensor], file: Path) -> str:
    """The word that the file gives to its vectors: its one key, else its name."""
    keys = set(tensors) - {_NAMELESS} - set(_ENCODERS)
    return next(iter(keys)) if len(tensors) == 1 and keys else file.stem


def _fitting(
    tensors: dict[str, torch.Tensor], pipeline: Any, file: Path
) -> tuple[list[tuple[str, str, torch.Tensor]], int]:
    """Return (tokenizer, text encoder, vectors) for what fits the pipeline, and how many tensors do not.

    One nameless set of vectors goes to the first encoder that is as wide.
    """
    places = {
        key: names for key, names in _ENCODERS.items() if isinstance(getattr(pipeline, names[1], None), nn.Module)
    }
    if len(tensors) == 1 and not set(tensors) & set(_ENCODERS):
        ((_, vectors),) = tensors.items()
        fitting = [(*names, vectors) for names in places.values() if _width(pipeline, names[1]) == vectors.shape[-1]][
            :1
        ]
    elif set(tensors) <= set(_ENCODERS):
        fitting = [
            (*places[key], vectors)
            for key, vectors in sorted(tensors.items(), reverse=True)  # clip_l first
            if key in places and _width(pipeline, places[key][1]) == vectors.shape[-1]
        ]
    else:
        shown = ", ".join(sorted(tensors)[:5])
        raise UnitFailure(Reason.invalid_pipeline, f"embedding {file.name}: it holds {shown}, no learned word")
    if not fitting:
        widths = {names[1]: _width(pipeline, names[1]) for names in places.values()}
        found = sorted({tensor.shape[-1] for tensor in tensors.values()})
        raise UnitFailure(Reason.no_keys_loaded, f"embedding {file.name}: its width is {found}, the base's {widths}")
    return fitting, len(tensors) - len(fitting)


def _width(pipeline: Any, encoder: str) -> int:
    return int(getattr(pipeline, encoder).get_input_embeddings().weight.shape[-1])
