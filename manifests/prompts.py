"""A prompt, and the schema of prompts.parquet."""

import pyarrow as pa

from manifests.frozen import FrozenModel

PROMPT_SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("prompt_source", pa.string(), nullable=False),
        pa.field("class_label", pa.string()),
        pa.field("real_source", pa.string()),
        pa.field("source_image_id", pa.string()),
        pa.field("photograph", pa.string()),
        pa.field("content", pa.string()),
        pa.field("split", pa.string()),
        pa.field("captioner_revision", pa.string()),
    ]
)


class Prompt(FrozenModel):
    """One prompt and the real image it came from.

    `prompt_id` is the content hash of (prompt_source, prompt, source_image_id), so the same caption of the
    same photograph keeps its id when the table grows. `prompt_source` is `caption` (given with the image),
    `blip`, `class_label` or `template`. `photograph` groups images cut from one photograph; `split` follows it.
    """

    prompt_id: str
    prompt: str
    prompt_source: str
    class_label: str | None = None
    real_source: str | None = None
    source_image_id: str | None = None
    photograph: str | None = None
    content: str | None = None
    split: str | None = None
    captioner_revision: str | None = None
