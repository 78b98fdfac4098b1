"""From an outcome to a commit. Runs in the driver, under the run lock."""

from manifests.unit import RealUnitSpec, UnitSpec
from pipeline.context import RunContext
from pipeline.failed_unit import publish_failed_unit
from pipeline.given_up import failure_reason
from pipeline.tasks import Died, Done, Failed, Task
from shards.commits import Commit, UnitInfo


def commit_done(context: RunContext, done: Done, prompts: int | None = None) -> Commit:
    """Commit a finished unit; `prompts`: see `unit_info`."""
    if done.receipt is None:
        raise ValueError(f"{done.task.id}: a finished unit has a receipt")
    commit = Commit.of(
        unit_info(done.task, prompts),
        done.receipt,
        environment=done.environment,
        versions=done.versions,
        attempt=done.task.attempt,
        seconds=done.seconds,
        host=done.host,
        log_tail=done.log_tail,
    )
    context.dataset.log.commit(commit)
    return commit


def commit_given_up(context: RunContext, outcome: Failed | Died, prompts: int | None = None) -> Commit:
    """Commit a given-up generator unit: rows that say why, and no image; `prompts`: see `unit_info`."""
    unit = outcome.task.work
    if not isinstance(unit, UnitSpec):
        raise TypeError(f"{outcome.task.id}: only a generator's unit can be given up, not {type(unit).__name__}")
    reason, detail = failure_reason(outcome)
    receipt = publish_failed_unit(context.folder.dataset, context.spool, unit, outcome.task.generation, reason)
    seconds, host = (outcome.seconds, outcome.host or None) if isinstance(outcome, Failed) else (0.0, None)
    commit = Commit.of(
        unit_info(outcome.task, prompts),
        receipt,
        environment=None,
        versions={},
        attempt=outcome.task.attempt,
        seconds=seconds,
        host=host,
        log_tail=f"{detail}\n{outcome.log_tail}".strip(),
    )
    context.dataset.log.commit(commit)
    return commit


def unit_info(task: Task, prompts: int | None = None) -> UnitInfo:
    """Return what the commit log keeps of a task's plan; `prompts` of its split were known when it was made."""
    unit = task.work
    if isinstance(unit, UnitSpec):
        name, revision, label, count = unit.generator.name, unit.generator.revision, 1, unit.count
    elif isinstance(unit, RealUnitSpec):
        name, revision, label, count = f"real-{unit.source.name}", None, 0, len(unit.images)
    else:
        raise TypeError(f"{type(unit).__name__} is not committed")
    return UnitInfo(
        unit=unit.unit,
        generator=name,
        revision=revision,
        label=label,
        first=unit.first,
        count=count,
        generation=task.generation,
        split=unit.split if isinstance(unit, UnitSpec) else None,
        prompts=prompts,
    )
