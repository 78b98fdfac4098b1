"""A prompt from a real image and a text: the id, and what the prompt inherits from the image."""

from captioning.real_record import RealRecord
from manifests.prompts import Prompt
from shards.identifiers import content_hash


def prompt_id_of(prompt_source: str, prompt: str, source_image_id: str | None) -> str:
    """Return the prompt's id, 32 hex digits: the same caption of the same image has the same id in every run."""
    return content_hash([prompt_source, prompt, source_image_id])


def make_prompt(
    record: RealRecord,
    real_source: str,
    text: str,
    prompt_source: str,
    split: str | None,
    captioner_revision: str | None = None,
) -> Prompt:
    """Return the prompt that `text` is for the image `record` of the source named `real_source`.

    Blanks around the text are taken off; a text of nothing else gives a blank prompt, which the prompt table drops.
    """
    text = text.strip()
    return Prompt(
        prompt_id=prompt_id_of(prompt_source, text, record.image_id),
        prompt=text,
        prompt_source=prompt_source,
        class_label=record.class_label,
        real_source=real_source,
        source_image_id=record.image_id,
        photograph=record.photograph,
        content=record.content,
        split=split,
        captioner_revision=captioner_revision,
    )
