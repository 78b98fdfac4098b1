"""Prompts from class labels: "photo of {class}", as GenImage asks its generators for ImageNet's classes."""

from collections.abc import Iterable

from captioning.make_prompt import make_prompt
from captioning.real_record import RealRecord
from captioning.real_units import split_of
from manifests.errors import InputError
from manifests.prompts import Prompt

TEMPLATE = "photo of {class}"


def prompts_from_class_labels(
    records: Iterable[RealRecord], real_source: str, test_fraction: float, salt: str, template: str = TEMPLATE
) -> list[Prompt]:
    """Return one prompt for each record with a class label, in order, in the split of the record's photograph.

    Raises:
        InputError: the template does not hold `{class}`.
    """
    if "{class}" not in template:
        raise InputError(f"template = {template!r}: it must hold {{class}}, such as {TEMPLATE!r}")
    return [
        make_prompt(
            record,
            real_source,
            template.replace("{class}", record.class_label),
            "class_label",
            split_of(record.split_group, test_fraction, salt),
        )
        for record in records
        if record.class_label is not None
    ]
