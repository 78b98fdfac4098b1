"""The sample stage: every eligible generator makes the images that no commit covers yet."""

import gc
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from crawlers.catalog import read_columns
from manifests.errors import InputError
from manifests.unit import UnitSpec
from pipeline.committing import commit_done, commit_given_up
from pipeline.config import RunConfig
from pipeline.context import RunContext, open_run
from pipeline.driver import drive
from pipeline.exit_codes import ExitCode
from pipeline.given_up import failure_reason
from pipeline.hub_outage import HubOutages
from pipeline.hub_token import hub_token
from pipeline.model_tally import tally_models
from pipeline.progress import say
from pipeline.run_folder import RunFolder
from pipeline.sampling_plan import SamplingPlan, plan_sampling
from pipeline.sampling_state import SamplingState
from pipeline.sampling_watch import watched
from pipeline.scheduler import Scheduler
from pipeline.status_file import read_status
from pipeline.tasks import Died, Done, Failed
from shards.audit.health import verdict
from shards.commit_cache import CommitSummary
from shards.commit_log import CACHE_AT_LEAST
from shards.commits import Commit
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
    bugs: int = 0
    """Units that ended by what nobody foresaw; each may be tried again by `--retry crashed`."""


def sample(context: RunContext, retry: Collection[Status] = ()) -> SampleOutcome:
    """Sample what is missing and commit it; with `retry`, open the next generation of units with these statuses.

    Raises:
        InputError: see `plan_sampling`; or a worker met what the user must mend first.
        HubOutage: the hub has stopped to answer.
        Interrupted: Ctrl-C or SIGTERM.
    """
    summaries = context.dataset.summaries()
    context.dataset.log.compact()
    commits = [commit for commit in summaries.values() if commit.label == 1]
    plan = plan_sampling(context, commits, retry)
    for snapshot, models in Counter(read_columns(context.folder.catalog, ["snapshot"])["snapshot"]).items():
        if snapshot not in context.dataset.manifest.snapshots:
            context.dataset.add_snapshot(snapshot, {"models": models})
    outcome = SampleOutcome()
    if plan.images:
        again = f", {plan.units_again} units tried again" if plan.units_again else ""
        say(f"sample: {plan.images} images wanted from {len(plan.missing)} generators{again}")
        sizes = context.config.sample
        revisions = {generator.name: generator.revision for generator in plan.generators}
        tallies = tally_models(revisions, sizes.images_per_generator, sizes.unit_images, commits)
        before = read_status(context.folder.status).get("totals")
        _run(context, plan, SamplingState(tallies, plan.units, before, plan.retries.images), summaries, outcome)
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
    if outcome.bugs:
        return ExitCode.OUR_BUG
    if outcome.failed_units:
        say("sample: failed units: " + ", ".join(f"{name} ({why})" for name, why in outcome.failed_units.items()))
        return ExitCode.DONE_WITH_FAILURES
    return ExitCode.DONE


def _run(
    context: RunContext,
    plan: SamplingPlan,
    state: SamplingState,
    summaries: Mapping[str, CommitSummary],
    outcome: SampleOutcome,
) -> None:
    config = context.config
    outages = HubOutages(config.hub.endpoint, hub_token(), config.hub.patience)

    def excuse(failure: Failed) -> bool:
        unit = failure.task.work
        return isinstance(unit, UnitSpec) and outages.excuse(unit.generator.repo_id, failure.seconds)

    scheduler = Scheduler(
        plan.groups(),
        config.execute.attempts,
        prefetch=config.hub.prefetch,
        deaths=context.deaths,
        worked=_have_worked(plan, summaries),
        excuse=excuse,
    )
    said: set[tuple[str, str]] = set()

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
        committed(commit_done(context, done, plan.prompts_of(done.task)), time.perf_counter() - started)

    def on_given_up(lost: Failed | Died) -> None:
        reason, detail = failure_reason(lost)
        started = time.perf_counter()
        commit = commit_given_up(context, lost, plan.prompts_of(lost.task))
        committed(commit, time.perf_counter() - started)
        if (commit.generator, reason) not in said:  # once for a generator, however many units it has
            say(f"sample: {commit.generator}: {reason.status} ({reason}): {detail}")
            said.add((commit.generator, reason))

    executor = context.executor()
    if context.metrics is not None:
        context.metrics.follow(state)
    with context.events.heard_by(state.hear), watched(state, context.folder.status), _seldom_collected():
        tally = drive(scheduler, executor, context.events, on_done, on_given_up, outages.outlast)
    outcome.bugs = len(tally.bugs)
    if tally.bugs:
        say(f"sample: {len(tally.bugs)} units met a bug of commforge; please report the last one:\n{tally.bugs[-1]}")


def _have_worked(plan: SamplingPlan, summaries: Mapping[str, CommitSummary]) -> set[str]:
    """Generators of which units were done at the revision that is sampled now."""
    revisions = {generator.name: generator.revision for generator in plan.generators}
    return {
        commit.generator
        for commit in summaries.values()
        if revisions.get(commit.generator) == commit.revision and not all(Status(s).failed for s in commit.counts)
    }


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
