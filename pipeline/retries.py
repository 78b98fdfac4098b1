"""Units that `--retry` makes again: the next generation of the same unit, so its plan must come out the same.

The prompt table only grows, and a commit says how many of its prompts the unit was planned from: with as many of the
table's first ones the plan is the one it was, however far the table grew since.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from manifests.prompts import Prompt
from pipeline.plan import GeneratorPlan
from pipeline.tasks import Task
from shards.commit_cache import CommitSummary
from shards.commits import may_retry
from shards.statuses import Reason, Status


@dataclass(frozen=True)
class Retry:
    """A unit to make again; its draws are planned when a worker is free."""

    plan: GeneratorPlan
    unit: str
    generation: int
    count: int

    def task(self) -> Task:
        """Return the unit's next generation."""
        (unit,) = self.plan.units()
        return Task(unit, generation=self.generation)


@dataclass(frozen=True)
class Retries:
    """What can be tried again, by generator in the catalog's order, and which units cannot, with why."""

    possible: dict[str, list[Retry]]
    refused: dict[str, str]

    @property
    def images(self) -> int:
        """Images wanted of all units."""
        return sum(retry.count for retries in self.possible.values() for retry in retries)


def not_tried_again(commits: Collection[CommitSummary], statuses: Collection[Status]) -> list[str]:
    """Say, for each of `statuses` and each reason, what has it and is not opened by `--retry`; for people.

    Empty when everything with these statuses may be tried again.
    """
    draws: Counter[Reason] = Counter()
    present: set[Status] = set()
    for commit in commits:
        found = {reason: count for name, count in commit.reasons.items() if (reason := Reason(name)).status in statuses}
        present |= {reason.status for reason in found}
        if not may_retry(commit, statuses):
            draws.update(found)
    absent = [
        f"no draw is {status}, so there is nothing to try again"
        for status in dict.fromkeys(statuses)
        if status not in present
    ]
    return absent + [
        f"{count} draws failed with {reason}, which no retry can help" for reason, count in draws.most_common()
    ]


def plan_retries(
    commits: Iterable[CommitSummary], statuses: Collection[Status], plans: Mapping[str, GeneratorPlan]
) -> Retries:
    """Plan again the units whose winning commit has one of `statuses` for a reason that a retry may mend.

    Args:
        plans: generator → a plan of it, as if nothing were committed.
    """
    prefixes: dict[tuple[str, int], Sequence[Prompt]] = {}
    possible: dict[str, list[Retry]] = {name: [] for name in plans}
    refused: dict[str, str] = {}
    for commit in commits:
        if not may_retry(commit, statuses):
            continue
        whole = plans.get(commit.generator)
        if whole is None:
            refused[commit.unit] = "the catalog has its generator no more"
            continue
        if whole.generator.revision != commit.revision:
            refused[commit.unit] = "the catalog has another revision of its generator"
            continue
        prompts = whole.prompts
        if commit.prompts is not None and commit.prompts < len(prompts):
            key = (whole.split, commit.prompts)
            prompts = prefixes.setdefault(key, prompts[: commit.prompts])
        plan = replace(whole, intervals=((commit.first, commit.first + commit.count),), prompts=prompts)
        promptless = plan.generator.kind == "text-to-image" and not prompts  # no plan at all comes out of these
        if promptless or [unit.unit for unit in plan.units()] != [commit.unit]:
            refused[commit.unit] = "it was planned from other prompts, or its generator was described otherwise"
            continue
        possible[commit.generator].append(Retry(plan, commit.unit, commit.generation + 1, commit.count))
    return Retries({name: retries for name, retries in possible.items() if retries}, refused)
