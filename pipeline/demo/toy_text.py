"""Tokenizers and text encoders of the toy pipelines: the real classes, with a vocabulary built here, offline."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.demo.toy_weights import seeded
from pipeline.demo.toy_words import toy_words

if TYPE_CHECKING:
    from transformers import (
        CLIPTextModel,
        CLIPTextModelWithProjection,
        CLIPTokenizer,
        T5EncoderModel,
        T5Tokenizer,
    )

_CLIP_TOKENS = 77
_CLIP_START, _CLIP_END = "<|startoftext|>", "<|endoftext|>"
_END_OF_WORD = "</w>"
_INITIALIZER_FACTOR = 3.0
"""Far above the usual 1: with two layers of random weights, prompts would otherwise hardly differ."""


def clip_tokenizer() -> "CLIPTokenizer":
    """Return CLIP's byte-level BPE tokenizer: every byte, and merges that spell the toy words from left to right.

    The merges are written out here because training them is not reproducible: ties fall differently in each process.
    """
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = _spelling_merges()
    tokens = [*alphabet, *(byte + _END_OF_WORD for byte in alphabet), *map("".join, merges)]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys([*tokens, _CLIP_START, _CLIP_END]))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=_CLIP_TOKENS)


def _spelling_merges() -> list[tuple[str, str]]:
    merges: dict[tuple[str, str], None] = {}
    for word in toy_words():
        letters = [*word[:-1], word[-1] + _END_OF_WORD]
        for end in range(1, len(letters)):
            merges[("".join(letters[:end]), letters[end])] = None
    return list(merges)


def save_clip_vocabulary(tokenizer: "CLIPTokenizer", folder: Path) -> None:
    """Replace `folder`'s tokenizer.json by the vocab.json and merges.txt that most of the hub's pipelines carry."""
    (folder / "tokenizer.json").unlink()
    tokenizer.backend_tokenizer.model.save(str(folder))


def clip_text_encoder(
    tokenizer: "CLIPTokenizer", seed: int, name: str, width: int = 32, projection: bool = False
) -> "CLIPTextModel | CLIPTextModelWithProjection":
    """Return a two-layer CLIP text encoder of `width` channels; `projection` adds the pooled projection head."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=_CLIP_TOKENS,
        hidden_act="gelu" if projection else "quick_gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_factor=_INITIALIZER_FACTOR,
    )
    with seeded(seed, name):
        return CLIPTextModelWithProjection(config).eval() if projection else CLIPTextModel(config).eval()


def t5_tokenizer() -> "T5Tokenizer":
    """Return T5's unigram tokenizer: the toy words as whole pieces, and single characters for everything else."""
    from transformers import T5Tokenizer

    characters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:!?'\"()-&/"
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0)]
    pieces += [(f"▁{word}", -6.0) for word in toy_words()]
    pieces += [(character, -10.0) for character in characters]
    known = {piece for piece, _ in pieces}
    pieces += [(f"▁{character}", -9.0) for character in characters if f"▁{character}" not in known]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)


def t5_encoder(tokenizer: "T5Tokenizer", seed: int, name: str, width: int = 32) -> "T5EncoderModel":
    """Return a two-layer T5 encoder of `width` channels, gated-GELU as in T5 v1.1."""
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=width,
        d_kv=width // 4,
        d_ff=2 * width,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
    )
    with seeded(seed, name):
        return T5EncoderModel(config).eval()
