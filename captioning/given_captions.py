"""Prompts from the captions that came with the real images."""

from collections.abc import Iterable

from captioning.make_prompt import make_prompt
from captioning.real_record import RealRecord
from captioning.real_units import split_of
from manifests.prompts import Prompt


def prompts_from_captions(
    records: Iterable[RealRecord], real_source: str, test_fraction: float, salt: str
) -> list[Prompt]:
    """Return one prompt for each record with a caption, in order, in the split of the record's photograph."""
    return [
        make_prompt(record, real_source, record.caption, "caption", split_of(record.split_group, test_fraction, salt))
        for record in records
        if record.caption is not None
    ]
