"""Plain sentences from a random captioner: which word stands at which place is in the weights, which word is chance.

An untrained decoder repeats one word without end. Here a few channels of the decoder carry a word class from the
position embeddings, past every layer, to the tied output embeddings; all other channels stay random, so the choice
within a class is made by the image. Captions read "that huge clock below the bright egg", in greedy and in beam search.
"""

from typing import TYPE_CHECKING

from pipeline.demo.toy_words import ADJECTIVES, DETERMINERS, NOUNS, PREPOSITIONS

if TYPE_CHECKING:
    from torch import Tensor
    from transformers.models.blip.modeling_blip_text import BlipTextLMHeadModel

_CLASSES: tuple[tuple[str, ...], ...] = (DETERMINERS, ADJECTIVES, NOUNS, PREPOSITIONS)
_SENTENCE = (0, 1, 2, 3, 0, 1, 2)
"""Word class of each place; after the last one the sentence ends."""

_POSITION_STRENGTH = 12.0
_WORD_STRENGTH = 2.0
_HEAD_GAIN = 60.0
"""Layer normalisation shrinks and shifts the class channels at every layer; the head undoes both."""


def teach_sentences(decoder: "BlipTextLMHeadModel", vocabulary: dict[str, int], end_token: str) -> None:
    """Write the sentence pattern into `decoder`'s weights, in place.

    Words outside the four classes, and all special tokens but `end_token`, become impossible.
    """
    import torch

    end = len(_CLASSES)
    bert, head = decoder.bert, decoder.cls.predictions
    with torch.no_grad():
        words = bert.embeddings.word_embeddings.weight
        positions = bert.embeddings.position_embeddings.weight
        words.copy_(torch.nn.functional.normalize(words))  # else the longest vectors win for every image
        words[:, : end + 1] = 0
        positions[:, : end + 1] = 0
        for place in range(len(positions)):
            word_class = _SENTENCE[place] if place < len(_SENTENCE) else end
            positions[place, word_class] = _POSITION_STRENGTH
        head.bias.fill_(-100.0)
        for word_class, members in enumerate((*_CLASSES, (end_token,))):
            numbers = [vocabulary[word] for word in members]
            words[numbers, word_class] = _WORD_STRENGTH
            head.bias[numbers] = 0
        for layer in bert.encoder.layer:
            for output in (layer.attention.output, layer.crossattention.output, layer.output):
                _keep_out(output.dense.weight, output.dense.bias, end + 1)
        transform = head.transform.dense
        _keep_out(transform.weight, transform.bias, end + 1)
        transform.weight[:, : end + 1] = 0
        centre = torch.eye(end + 1) - 1 / (end + 1)
        transform.weight[: end + 1, : end + 1] = _HEAD_GAIN * centre


def _keep_out(weight: "Tensor", bias: "Tensor", channels: int) -> None:
    """Let a layer add nothing to the first `channels` channels of the residual stream."""
    weight[:channels] = 0
    bias[:channels] = 0
