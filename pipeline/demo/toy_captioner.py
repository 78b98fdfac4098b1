"""The toy captioner: BLIP for conditional generation with random weights and a vocabulary of whole English words."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.demo.photos import PHOTO_SIZE
from pipeline.demo.toy_grammar import teach_sentences
from pipeline.demo.toy_weights import seeded
from pipeline.demo.toy_words import toy_words

if TYPE_CHECKING:
    from transformers import BlipForConditionalGeneration

CAPTIONER_REPO = "toy/blip-captioner"

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]")


def build_captioner(folder: Path, seed: int) -> None:
    """Write model and processor in the layout of Salesforce/blip-image-captioning-base.

    The weights have a standard deviation of 0.2: with the published 0.02 every image gets the same caption.
    """
    from transformers import BertTokenizer, BlipImageProcessor, BlipProcessor

    vocabulary = {token: number for number, token in enumerate((*_SPECIAL, *toy_words()))}
    tokenizer = BertTokenizer(
        vocab=vocabulary, bos_token="[DEC]", additional_special_tokens=["[ENC]"], model_max_length=64
    )
    image_processor = BlipImageProcessor(size={"height": PHOTO_SIZE, "width": PHOTO_SIZE})
    _captioner(vocabulary, seed).save_pretrained(folder)
    BlipProcessor(image_processor, tokenizer).save_pretrained(folder)


def _captioner(vocabulary: dict[str, int], seed: int) -> "BlipForConditionalGeneration":
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipTextConfig, BlipVisionConfig

    sizes = {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "initializer_range": 0.2,
    }
    text = BlipTextConfig(
        vocab_size=len(vocabulary),
        encoder_hidden_size=sizes["hidden_size"],
        max_position_embeddings=64,
        pad_token_id=vocabulary["[PAD]"],
        bos_token_id=vocabulary["[DEC]"],
        sep_token_id=vocabulary["[SEP]"],
        eos_token_id=vocabulary["[SEP]"],
        **sizes,
    )
    vision = BlipVisionConfig(image_size=PHOTO_SIZE, patch_size=16, **sizes)
    config = BlipConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=32, initializer_range=0.2
    )
    with seeded(seed, "captioner"):
        model = BlipForConditionalGeneration(config).eval()
    teach_sentences(model.text_decoder, vocabulary, end_token="[SEP]")
    return model
