"""What a sample stage has to do: units for what no commit covers yet, and those that `--retry` makes again."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from captioning.prompt_table import read_prompts
from crawlers.catalog import eligible_generators
from manifests.errors import InputError
from manifests.generator import GeneratorSpec
from manifests.prompts import Prompt
from manifests.unit import CheckerSpec, UnitSpec
from pipeline.config import RunConfig
from pipeline.context import RunContext
from pipeline.plan import GeneratorPlan, plan_generators
from pipeline.progress import say
from pipeline.retries import Retries, Retry, not_tried_again, plan_retries
from pipeline.splits import assign_splits, check_splits_kept
from pipeline.tasks import Task
from pipeline.work_queue import TaskGroup
from shards.commit_cache import CommitSummary
from shards.commits import may_retry
from shards.reader import read_rows
from shards.statuses import Status


@dataclass(frozen=True)
class SamplingPlan:
    """The work of one stage; its units are built one by one, when a worker is free.

    Attributes:
        generators: all that the catalog allows, in its order.
        missing: what they lack.
        retries: what is tried again.
    """

    generators: Sequence[GeneratorSpec]
    missing: Sequence[GeneratorPlan]
    retries: Retries

    @property
    def images(self) -> int:
        """Images wanted."""
        return sum(end - first for plan in self.missing for first, end in plan.intervals) + self.retries.images

    @property
    def units_again(self) -> int:
        """Units that are tried again."""
        return sum(map(len, self.retries.possible.values()))

    @property
    def units(self) -> int:
        """Units in all."""
        return sum(len(plan.intervals) for plan in self.missing) + self.units_again

    def groups(self) -> Iterator[TaskGroup]:
        """Yield the work by generator, what is missing first."""
        for plan in self.missing:
            generator = plan.generator
            tasks = map(Task, plan.units())  # a generator expression would hold on to its last unit's hundred draws
            yield TaskGroup(generator.name, generator.family, tasks, len(plan.intervals), generator)
        for name, own in self.retries.possible.items():
            generator = own[0].plan.generator
            yield TaskGroup(f"retry {name}", generator.family, map(Retry.task, own), len(own), generator)

    def prompts_of(self, task: Task) -> int | None:
        """Return how many of its split's prompts a unit was planned from."""
        unit = task.work
        if not isinstance(unit, UnitSpec):
            return None
        return self._prompts_again.get(task.id, self._prompts.get(unit.split or ""))

    @cached_property
    def _prompts(self) -> dict[str, int]:
        return {plan.split: len(plan.prompts) for plan in self.missing}

    @cached_property
    def _prompts_again(self) -> dict[str, int]:
        return {retry.unit: len(retry.plan.prompts) for own in self.retries.possible.values() for retry in own}


def plan_sampling(context: RunContext, commits: Sequence[CommitSummary], retry: Collection[Status]) -> SamplingPlan:
    """Plan what the commits of generated images lack, and check that it can be carried out.

    Raises:
        InputError: no catalog, no prompts for a text-to-image generator, or a generator would change its split.
    """
    config, folder = context.config, context.folder
    generators = eligible_generators(folder.catalog)
    prompts = read_prompts(folder.prompts) if folder.prompts.exists() else []
    splits = assign_splits(generators, config.splits)
    check_splits_kept(splits, _committed_splits(context, commits))
    missing = plan_generators(generators, splits, prompts, commits, config.sample, _checker(config))
    for plan in missing:
        if plan.generator.kind == "text-to-image" and not plan.prompts:
            raise InputError(
                f"{plan.generator.repo_id} is in split {plan.split!r}, and no prompt is: add real photographs, or "
                "change splits.test_fraction or splits.salt"
            )
    return SamplingPlan(generators, missing, _retries(config, generators, prompts, commits, retry))


def _retries(
    config: RunConfig,
    generators: Sequence[GeneratorSpec],
    prompts: Sequence[Prompt],
    commits: Sequence[CommitSummary],
    retry: Collection[Status],
) -> Retries:
    """Plan what `--retry` opens, and say what it cannot open."""
    for what in not_tried_again(commits, retry):
        say(f"sample: {what}")
    wanted = {commit.generator for commit in commits if may_retry(commit, retry)}
    if not wanted:
        return Retries({}, {})
    splits = assign_splits(generators, config.splits)
    chosen = [generator for generator in generators if generator.name in wanted]
    plans = plan_generators(chosen, splits, prompts, [], config.sample, _checker(config))
    retries = plan_retries(commits, retry, {plan.generator.name: plan for plan in plans})
    for why, units in Counter(retries.refused.values()).items():
        example = next(unit for unit, reason in retries.refused.items() if reason == why)
        say(f"sample: {units} units are not tried again, such as {example}: {why}")
    return retries


def _committed_splits(context: RunContext, commits: Iterable[CommitSummary]) -> dict[str, str]:
    splits: dict[str, str] = {}
    silent = []
    for commit in commits:
        if commit.split is not None:
            splits[commit.generator] = commit.split
        else:  # made before commits said it: the rows do
            silent.append(context.dataset.log.read(commit.unit, commit.generation))
    rows = read_rows(context.folder.dataset, silent, columns=["generator", "split"])
    pairs = rows.group_by(["generator", "split"]).aggregate([])
    return splits | dict(zip(pairs["generator"].to_pylist(), pairs["split"].to_pylist(), strict=True))


def _checker(config: RunConfig) -> CheckerSpec | None:
    checker = config.sample.checker
    if checker is None:
        return None
    if checker.revision is None:
        raise ValueError("the checker's revision is pinned before sampling")
    return CheckerSpec(repo_id=checker.repo_id, revision=checker.revision)
