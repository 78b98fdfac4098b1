"""What is still to be sampled: units for the images that no commit covers yet.

Draws of a generator are numbered 0, 1, 2, ...; a commit covers a range of them. The ranges that are missing are cut
at multiples of `unit_images`, so an undisturbed run, a killed and repeated one, and one whose
`images_per_generator` was raised later all agree on what remains.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from manifests.generator import GeneratorSpec
from manifests.prompts import Prompt
from manifests.unit import CheckerSpec, UnitSpec
from pipeline.config import SampleConfig
from pipeline.memory_plan import planned_batch_size, planned_dtype
from pipeline.prompt_choice import PromptChoice
from shards.commit_cache import CommitSummary
from shards.commits import Commit

Interval = tuple[int, int]
"""Draw numbers from the first to before the second."""


def missing_intervals(wanted: int, covered: Iterable[Interval], unit_images: int) -> list[Interval]:
    """Return what of 0..wanted no interval covers, cut at multiples of `unit_images`, in order."""
    gaps: list[Interval] = []
    position = 0
    for start, end in [*sorted(covered), (wanted, wanted)]:
        while position < min(start, wanted):
            cut = min(start, wanted, (position // unit_images + 1) * unit_images)
            gaps.append((position, cut))
            position = cut
        position = max(position, end)
    return gaps


@dataclass(frozen=True)
class GeneratorPlan:
    """One generator's split and its missing ranges; units are built one by one, when a worker is free."""

    generator: GeneratorSpec
    split: str
    intervals: tuple[Interval, ...]
    prompts: Sequence[Prompt]
    sample: SampleConfig
    checker: CheckerSpec | None

    def units(self) -> Iterator[UnitSpec]:
        """Yield the missing units in order."""
        choice = PromptChoice(self.generator, self.prompts)
        batch_size = planned_batch_size(self.generator, self.sample)
        dtype = planned_dtype(self.generator, self.sample)
        for first, end in self.intervals:
            count = end - first
            reserves = math.ceil(count * self.sample.reserve_fraction)
            yield UnitSpec(
                generator=self.generator,
                first=first,
                count=count,
                draws=choice.targets(first, end),
                reserve=choice.reserves(first, first + reserves),
                batch_size=batch_size,
                cpu_threads=self.sample.cpu_threads,
                dtype=dtype,
                checker=self.checker,
                keep_flagged=self.sample.keep_flagged,
                split=self.split,
            )


def plan_generators(
    generators: Sequence[GeneratorSpec],
    splits: dict[str, str],
    prompts: Sequence[Prompt],
    commits: Iterable[Commit | CommitSummary],
    sample: SampleConfig,
    checker: CheckerSpec | None,
) -> list[GeneratorPlan]:
    """Return what each generator still lacks; a generator with nothing missing is left out.

    `splits` maps generator names to their split; a generator only gets prompts whose photograph is in the same
    split, so no photograph is behind both a train and a test image.
    """
    covered: dict[tuple[str, str | None], list[Interval]] = defaultdict(list)
    for commit in commits:
        covered[commit.generator, commit.revision].append((commit.first, commit.first + commit.count))
    by_split: dict[str | None, list[Prompt]] = defaultdict(list)
    for prompt in prompts:
        by_split[prompt.split].append(prompt)
    plans = []
    for generator in generators:
        intervals = missing_intervals(
            sample.images_per_generator, covered[generator.name, generator.revision], sample.unit_images
        )
        if intervals:
            split = splits[generator.name]
            plans.append(GeneratorPlan(generator, split, tuple(intervals), by_split[split], sample, checker))
    return plans
