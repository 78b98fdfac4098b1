"""Prompts from captions that a captioner wrote for real images without one."""

from collections.abc import Sequence

from captioning.make_prompt import make_prompt
from captioning.real_record import RealRecord
from captioning.real_units import split_of
from manifests.prompts import Prompt


def prompts_from_generated(
    records: Sequence[RealRecord],
    captions: Sequence[str],
    real_source: str,
    test_fraction: float,
    salt: str,
    captioner_revision: str | None,
    prompt_source: str = "blip",
) -> list[Prompt]:
    """Return one prompt for each record and its caption, in order, in the split of the record's photograph.

    Raises:
        ValueError: not as many captions as records.
    """
    return [
        make_prompt(
            record,
            real_source,
            caption,
            prompt_source,
            split_of(record.split_group, test_fraction, salt),
            captioner_revision,
        )
        for record, caption in zip(records, captions, strict=True)
    ]
