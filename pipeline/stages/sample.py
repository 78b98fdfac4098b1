"""The sample stage: every eligible generator makes the images that no commit covers yet."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from captioning.prompt_table import read_prompts
from crawlers.catalog import eligible_generators, read_catalog
from crawlers.hub_client import HubClient, unreachable
from crawlers.hub_errors import HubError, HubUnreachableError
from manifests.errors import InputError
from manifests.generator import GeneratorSpec
from manifests.prompts import Prompt
from manifests.unit import CheckerSpec, UnitSpec
from pipeline.committing import commit_done, commit_given_up, unit_info
from pipeline.config import RunConfig
from pipeline.context import RunContext, open_run
from pipeline.driver import drive
from pipeline.exit_codes import ExitCode
from pipeline.hub_token import hub_token
from pipeline.plan import GeneratorPlan, plan_generators
from pipeline.progress import StageProgress, say
from pipeline.run_folder import RunFolder
from pipeline.scheduler import Scheduler, failure_reason
from pipeline.splits import assign_splits, check_splits_kept
from pipeline.tasks import Died, Done, Failed, Task
from shards.commits import Commit, may_retry
from shards.statuses import Reason, Status


@dataclass
class SampleOutcome:
    """What the stage did, in units and images."""

    units: int = 0
    ok_images: int = 0
    failed_units: dict[str, str] = field(default_factory=dict)
    """generator → the reason its last unit failed for, over the whole dataset"""


def sample(context: RunContext, retry: Collection[Status] = ()) -> SampleOutcome:
    """Sample what is missing and commit it; with `retry`, open the next generation of units with these statuses.

    Raises:
        InputError: no catalog, no prompts for a text-to-image generator, a generator would change its split, or the
            hub has stopped to answer.
        Interrupted: Ctrl-C or SIGTERM.
    """
    generators = eligible_generators(context.folder.catalog)
    prompts = read_prompts(context.folder.prompts) if context.folder.prompts.exists() else []
    commits = [commit for commit in context.dataset.commits().values() if commit.label == 1]
    check_splits_kept(assign_splits(generators, context.config.splits), _committed_splits(context))
    for snapshot, models in Counter(row.snapshot for row in read_catalog(context.folder.catalog)).items():
        if snapshot not in context.dataset.manifest.snapshots:
            context.dataset.add_snapshot(snapshot, {"models": models})
    plans = missing_work(context.config, generators, prompts, commits)
    again = _retries(context.config, generators, prompts, commits, retry)
    wanted = sum(end - first for plan in plans for first, end in plan.intervals) + sum(
        unit_info(task).count for task in again
    )
    outcome = SampleOutcome()
    if wanted:
        say(
            f"sample: {wanted} images wanted from {len(plans)} generators"
            + (f", {len(again)} units tried again" if again else "")
        )
        _run(context, plans, again, wanted, outcome)
    for commit in context.dataset.commits().values():
        failing = [status for status in commit.counts if Status(status).failed]
        if failing:
            outcome.failed_units[commit.generator] = next(r for r in commit.reasons if Reason(r).status in failing)
    return outcome


def sample_alone(
    config: RunConfig, *, catalog: Path | None, prompts: Path | None, dataset: Path | None, retry: Sequence[str]
) -> ExitCode:
    """The `sample` command; the three paths replace those of the run's folder."""
    usual = RunFolder.at(config.output)
    folder = replace(
        usual, catalog=catalog or usual.catalog, prompts=prompts or usual.prompts, dataset=dataset or usual.dataset
    )
    allowed = dict.fromkeys(str(reason.status) for reason in Reason if reason.retryable)
    for status in retry:
        if status not in allowed:
            known = "units with this status are not tried again" if status in list(Status) else "no such status"
            raise InputError(f"--retry {status}: {known}; allowed: {', '.join(allowed)}")
    if prompts is not None and not prompts.is_file():
        raise InputError(
            f"--prompts {prompts}: " + ("this is a folder" if prompts.is_dir() else "there is no such file")
        )
    with open_run(config, folder) as context:
        outcome = sample(context, [Status(status) for status in retry])
    say(f"sample: {outcome.units} units committed, {outcome.ok_images} new images")
    if outcome.failed_units:
        say("sample: failed units: " + ", ".join(f"{name} ({why})" for name, why in outcome.failed_units.items()))
        return ExitCode.DONE_WITH_FAILURES
    return ExitCode.DONE


def missing_work(
    config: RunConfig, generators: Sequence[GeneratorSpec], prompts: Sequence[Prompt], commits: Sequence[Commit]
) -> list[GeneratorPlan]:
    """Plan what the commits lack, and check that the plan can be carried out.

    Raises:
        InputError: see `sample`.
    """
    plans = plan_missing(config, generators, prompts, commits)
    for plan in plans:
        if plan.generator.kind == "text-to-image" and not plan.prompts:
            raise InputError(
                f"{plan.generator.repo_id} is in split {plan.split!r}, and no prompt is: add real photographs, or "
                "change splits.test_fraction or splits.salt"
            )
    return plans


def plan_missing(
    config: RunConfig, generators: Sequence[GeneratorSpec], prompts: Sequence[Prompt], commits: Sequence[Commit]
) -> list[GeneratorPlan]:
    """Plan what the commits lack, whether or not prompts are there for it."""
    splits = assign_splits(generators, config.splits)
    return plan_generators(generators, splits, prompts, commits, config.sample, _checker(config))


def _run(
    context: RunContext, plans: Sequence[GeneratorPlan], again: Sequence[Task], wanted: int, outcome: SampleOutcome
) -> None:
    groups: list[tuple[str, str, Iterator[Task]]] = [
        (plan.generator.name, plan.generator.family, (Task(unit) for unit in plan.units())) for plan in plans
    ]
    groups += [(f"retry {task.id}", task.family, iter([task])) for task in again]
    scheduler = Scheduler(groups, context.config.execute.attempts)
    said: set[tuple[str, str]] = set()
    with StageProgress("sample", wanted, "images") as progress:

        def on_done(done: Done) -> None:
            commit = commit_done(context, done)
            outcome.units += 1
            outcome.ok_images += commit.counts.get(Status.ok, 0)
            progress.advance(commit.count, commit.generator)

        def on_given_up(lost: Failed | Died) -> None:
            reason, detail = failure_reason(lost)
            if reason is Reason.download_failed and isinstance(lost.task.work, UnitSpec):
                _check_hub_answers(context, lost.task.work.generator.repo_id)
            commit = commit_given_up(context, lost)
            outcome.units += 1
            if (commit.generator, reason) not in said:  # once for a generator, however many units it has
                say(f"sample: {commit.generator}: {reason.status} ({reason}): {detail}")
                said.add((commit.generator, reason))
            progress.advance(commit.count, commit.generator)

        drive(scheduler, context.executor(), context.events, on_done, on_given_up)


def _check_hub_answers(context: RunContext, repo_id: str) -> None:
    """Tell one repo's trouble from the hub's: without a hub every further model would fail for nothing of its own."""
    endpoint = context.config.hub.endpoint
    try:
        HubClient(endpoint, hub_token()).model_info(repo_id, files=False)
    except HubUnreachableError as error:
        raise InputError(f"{unreachable(endpoint, error)}; the same command goes on from here") from error
    except HubError:
        return  # it answers, and what is wrong is this repo's


def _retries(
    config: RunConfig,
    generators: Sequence[GeneratorSpec],
    prompts: Sequence[Prompt],
    commits: Sequence[Commit],
    retry: Collection[Status],
) -> list[Task]:
    """Plan the next generation of units that may be retried: the same unit, so its plan must come out the same."""
    splits = assign_splits(generators, config.splits)
    known = {generator.name: generator for generator in generators}
    tasks = []
    for commit in (commit for commit in commits if may_retry(commit, retry)):
        generator = known.get(commit.generator)
        planned: list[UnitSpec] = []
        if generator is not None:
            interval = (commit.first, commit.first + commit.count)
            split = splits[generator.name]
            chosen = [prompt for prompt in prompts if prompt.split == split]
            plan = GeneratorPlan(generator, split, (interval,), chosen, config.sample, _checker(config))
            planned = list(plan.units())
        if [unit.unit for unit in planned] != [commit.unit]:
            say(
                f"sample: not tried again: unit {commit.unit} of {commit.generator} was planned from other prompts or "
                "another catalog than the run has now"
            )
            continue
        tasks.append(Task(planned[0], generation=commit.generation + 1))
    return tasks


def _committed_splits(context: RunContext) -> dict[str, str]:
    pairs = context.dataset.rows(columns=["generator", "split"], label=1).group_by(["generator", "split"]).aggregate([])
    return dict(zip(pairs["generator"].to_pylist(), pairs["split"].to_pylist(), strict=True))


def _checker(config: RunConfig) -> CheckerSpec | None:
    checker = config.sample.checker
    if checker is None:
        return None
    if checker.revision is None:
        raise ValueError("the checker's revision is pinned before sampling")
    return CheckerSpec(repo_id=checker.repo_id, revision=checker.revision)
