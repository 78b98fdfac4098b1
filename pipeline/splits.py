"""Which split a generator belongs to. Splits go by lineage, so two fine-tunes of one base never face each other."""

from collections.abc import Mapping, Sequence

from captioning.real_units import split_of
from manifests.errors import InputError
from manifests.generator import GeneratorSpec
from pipeline.config import SplitConfig


def assign_splits(generators: Sequence[GeneratorSpec], splits: SplitConfig) -> dict[str, str]:
    """Return generator name → `train` or `test`.

    Raises:
        InputError: `splits.test_generators` names a generator that is not there.
    """
    named = {key for generator in generators for key in (generator.name, generator.repo_id)}
    unknown = [name for name in splits.test_generators if name not in named]
    if unknown:
        known = ", ".join(sorted(generator.repo_id for generator in generators)) or "none"
        raise InputError(f"splits.test_generators: {', '.join(unknown)} is no eligible generator; there are: {known}")
    held_out = {
        _lineage(generator)
        for generator in generators
        if {generator.name, generator.repo_id} & set(splits.test_generators)
    }
    if splits.test_generators:
        return {g.name: "test" if _lineage(g) in held_out else "train" for g in generators}
    return {g.name: split_of(_lineage(g), splits.test_fraction, splits.salt) for g in generators}


def check_splits_kept(splits: Mapping[str, str], committed: Mapping[str, str]) -> None:
    """Check that no generator with committed images would change sides; both map generator names to splits.

    Raises:
        InputError: names the first such generator and what to do.
    """
    for generator, split in committed.items():
        if splits.get(generator, split) != split:
            raise InputError(
                f"splits.test_generators: {generator} has committed images in split {split!r} and would move to "
                f"{splits[generator]!r}; keep it where it is, or start another dataset"
            )


def _lineage(generator: GeneratorSpec) -> str:
    return generator.lineage or generator.repo_id
