"""The sample stage: every eligible generator makes the images that no commit covers yet."""

import gc
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from captioning.prompt_table import read_prompts
from crawlers.catalog import eligible_generators, read_columns
from crawlers.hub.hub_client import HubClient, unreachable
from crawlers.hub.hub_errors import HubError, HubUnreachableError
from manifests.errors import InputError
from manifests.generator import GeneratorSpec
from manifests.prompts import Prompt
from manifests.unit import CheckerSpec, UnitSpec
from pipeline.committing import commit_done, commit_given_up
from pipeline.config import RunConfig
from pipeline.context import RunContext, open_run
from pipeline.driver import drive
from pipeline.exit_codes import ExitCode
from pipeline.hub_token import hub_token
from pipeline.model_tally import tally_models
from pipeline.plan import GeneratorPlan, plan_generators
from pipeline.progress import say
from pipeline.retries import Retries, Retry, plan_retries
from pipeline.run_folder import RunFolder
from pipeline.sampling_state import SamplingState
from pipeline.sampling_watch import watched
from pipeline.scheduler import Scheduler, failure_reason
from pipeline.splits import assign_splits, check_splits_kept
from pipeline.status_file import read_status
from pipeline.tasks import Died, Done, Failed, Task
from pipeline.work_queue import TaskGroup
from shards.audit.health import verdict
from shards.commit_cache import CommitSummary
from shards.commits import CACHE_AT_LEAST, Commit, may_retry
from shards.reader import read_rows
from shards.statuses import Reason, Status

_COLLECTED_AFTER = 50_000
"""New objects between two runs of the garbage collector while the driver leases and commits."""


@dataclass
class SampleOutcome:
    """What the stage did, in units and images."""

    units: int = 0
    ok_images: int = 0
    failed_units: dict[str, str] = field(default_factory=dict)
    """generator → the reason its last unit failed for, over the whole dataset"""
    unhealthy: dict[str, str] = field(default_factory=dict)
    """generator → what most of its images are, over the whole dataset: see `shards.audit.health`"""


def sample(context: RunContext, retry: Collection[Status] = ()) -> SampleOutcome:
    """Sample what is missing and commit it; with `retry`, open the next generation of units with these statuses.

    Raises:
        InputError: no catalog, no prompts for a text-to-image generator, a generator would change its split, or the
            hub has stopped to answer.
        Interrupted: Ctrl-C or SIGTERM.
    """
    generators = eligible_generators(context.folder.catalog)
    prompts = read_prompts(context.folder.prompts) if context.folder.prompts.exists() else []
    summaries = context.dataset.summaries()
    context.dataset.log.compact()
    commits = [commit for commit in summaries.values() if commit.label == 1]
    check_splits_kept(assign_splits(generators, context.config.splits), _committed_splits(context, commits))
    for snapshot, models in Counter(read_columns(context.folder.catalog, ["snapshot"])["snapshot"]).items():
        if snapshot not in context.dataset.manifest.snapshots:
            context.dataset.add_snapshot(snapshot, {"models": models})
    plans = missing_work(context.config, generators, prompts, commits)
    retries = _retries(context.config, generators, prompts, commits, retry)
    wanted = sum(end - first for plan in plans for first, end in plan.intervals) + retries.images
    outcome = SampleOutcome()
    if wanted:
        units = sum(map(len, retries.possible.values()))
        say(
            f"sample: {wanted} images wanted from {len(plans)} generators"
            + (f", {units} units tried again" if units else "")
        )
        tallies = tally_models(
            {generator.name: generator.revision for generator in generators},
            context.config.sample.images_per_generator,
            context.config.sample.unit_images,
            commits,
        )
        before = read_status(context.folder.status).get("totals")
        state = SamplingState(tallies, sum(len(plan.intervals) for plan in plans) + units, before)
        _run(context, plans, retries, state, summaries, outcome)
    summaries = context.dataset.summaries()
    context.dataset.log.compact(finished=True)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for commit in summaries.values():
        counts[commit.generator].update(commit.counts)
        failing = [status for status in commit.counts if Status(status).failed]
        if failing:
            outcome.failed_units[commit.generator] = next(r for r in commit.reasons if Reason(r).status in failing)
    outcome.unhealthy = {name: found for name, own in counts.items() if (found := verdict(own)) is not None}
    if outcome.unhealthy:
        say("sample: look at " + ", ".join(f"{name} ({what})" for name, what in outcome.unhealthy.items()))
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
    config: RunConfig, generators: Sequence[GeneratorSpec], prompts: Sequence[Prompt], commits: Sequence[CommitSummary]
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
    config: RunConfig, generators: Sequence[GeneratorSpec], prompts: Sequence[Prompt], commits: Sequence[CommitSummary]
) -> list[GeneratorPlan]:
    """Plan what the commits lack, whether or not prompts are there for it."""
    splits = assign_splits(generators, config.splits)
    return plan_generators(generators, splits, prompts, commits, config.sample, _checker(config))


def _run(
    context: RunContext,
    plans: Sequence[GeneratorPlan],
    retries: Retries,
    state: SamplingState,
    summaries: Mapping[str, CommitSummary],
    outcome: SampleOutcome,
) -> None:
    config = context.config
    groups = _groups(plans, retries)
    scheduler = Scheduler(groups, config.execute.attempts, prefetch=config.hub.prefetch, deaths=context.deaths)
    prompts = {plan.split: len(plan.prompts) for plan in plans}
    again = {retry.unit: len(retry.plan.prompts) for own in retries.possible.values() for retry in own}
    said: set[tuple[str, str]] = set()

    def planned_from(task: Task) -> int | None:
        unit = task.work
        return again.get(task.id, prompts.get(unit.split or "")) if isinstance(unit, UnitSpec) else None

    def committed(commit: Commit, seconds: float) -> None:
        outcome.units += 1
        outcome.ok_images += commit.counts.get(Status.ok, 0)
        replaced = summaries.get(commit.unit) if commit.generation else None
        state.committed(commit.summary, replaced, seconds)
        if context.metrics is not None:
            context.metrics.commit_seconds.observe(seconds)
        if outcome.units % CACHE_AT_LEAST == 0:
            context.dataset.log.compact()

    def on_done(done: Done) -> None:
        started = time.perf_counter()
        committed(commit_done(context, done, planned_from(done.task)), time.perf_counter() - started)

    def on_given_up(lost: Failed | Died) -> None:
        reason, detail = failure_reason(lost)
        if reason is Reason.download_failed and isinstance(lost.task.work, UnitSpec):
            _check_hub_answers(context, lost.task.work.generator.repo_id)
        started = time.perf_counter()
        commit = commit_given_up(context, lost, planned_from(lost.task))
        committed(commit, time.perf_counter() - started)
        if (commit.generator, reason) not in said:  # once for a generator, however many units it has
            say(f"sample: {commit.generator}: {reason.status} ({reason}): {detail}")
            said.add((commit.generator, reason))

    executor = context.executor()
    if context.metrics is not None:
        context.metrics.follow(state)
    with context.events.heard_by(state.hear), watched(state, context.folder.status), _seldom_collected():
        drive(scheduler, executor, context.events, on_done, on_given_up)


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """Spare the garbage collector what makes no garbage: catalog, prompts and plan, which stay until the stage ends,
    and the hundred draws of each unit, which are freed without it."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_COLLECTED_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _groups(plans: Sequence[GeneratorPlan], retries: Retries) -> Iterator[TaskGroup]:
    for plan in plans:
        generator = plan.generator
        tasks = map(Task, plan.units())  # a generator expression would hold on to its last unit's hundred draws
        yield TaskGroup(generator.name, generator.family, tasks, len(plan.intervals), generator)
    for name, own in retries.possible.items():
        generator = own[0].plan.generator
        yield TaskGroup(f"retry {name}", generator.family, map(Retry.task, own), len(own), generator)


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
    commits: Sequence[CommitSummary],
    retry: Collection[Status],
) -> Retries:
    """Plan what `--retry` opens, and say what it cannot open."""
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
