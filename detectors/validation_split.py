"""Hold out part of the training rows for choosing checkpoints, with no source photograph on both sides."""

import hashlib
import math

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from manifests.errors import InputError


def split_validation(rows: pa.Table, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (training, validation) row numbers of `select_rows`' table: ascending, disjoint and complete.

    Photographs are taken in the order of a keyed hash until each class has at least `fraction` of its images (and one)
    in validation, so the choice depends on ids and seed alone, not on the order of rows.

    Raises:
        InputError: the classes cannot both be on both sides, because too few photographs hold them.
    """
    labels = rows["label"].to_numpy()
    groups: dict[str, list[int]] = {}
    for number, photograph in enumerate(rows["photograph"].to_pylist()):
        groups.setdefault(photograph, []).append(number)
    totals = np.bincount(labels, minlength=2)
    wanted = [max(1, math.ceil(fraction * total)) for total in totals]
    held = np.zeros(2, dtype=np.int64)
    validation: list[int] = []
    for photograph in sorted(groups, key=lambda name: _place(name, seed)):
        members = groups[photograph]
        counts = np.bincount(labels[members], minlength=2)
        needed = any(counts[label] and held[label] < wanted[label] for label in (0, 1))
        if needed and all(held[label] + counts[label] < totals[label] for label in (0, 1) if counts[label]):
            validation += members
            held += counts
        if all(held[label] >= wanted[label] for label in (0, 1)):
            break
    if not held.all():
        raise InputError(
            f"the {len(labels)} training images ({totals[0]} real, {totals[1]} fake) come from {len(groups)} source "
            "photographs, too few to hold out real and fake images for validation with no photograph on both sides"
        )
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[validation] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _place(photograph: str, seed: int) -> bytes:
    return hashlib.blake2b(photograph.encode(), digest_size=16, key=seed.to_bytes(8, "little")).digest()
