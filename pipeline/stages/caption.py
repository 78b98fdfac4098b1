"""The caption stage: real photographs become label-0 rows, and their captions become prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

from captioning.make_prompt import make_prompt
from captioning.prompt_table import append_prompts, read_prompts
from captioning.real_record import RealRecord
from captioning.real_sources import read_real_source
from captioning.real_units import plan_real_units, real_generator_name, split_of
from manifests.errors import InputError
from manifests.prompts import Prompt
from manifests.real_source import RealSource
from manifests.unit import RealUnitSpec
from pipeline.committing import commit_done
from pipeline.context import RunContext
from pipeline.driver import drive
from pipeline.given_up import failure_reason
from pipeline.progress import StageProgress, say
from pipeline.scheduler import Scheduler
from pipeline.stages.captioner_pass import CaptionerPass
from pipeline.tasks import Died, Done, Failed, Task
from pipeline.work_queue import TaskGroup


@dataclass(frozen=True)
class _Photograph:
    source: RealSource
    record: RealRecord


def caption(context: RunContext) -> None:
    """Commit the real images that are missing, then make the prompts that are missing.

    Raises:
        InputError: a source or the captioner cannot be used; the message names it and why.
        Interrupted: Ctrl-C or SIGTERM.
    """
    photographs: list[_Photograph] = []
    units: list[RealUnitSpec] = []
    seen: set[str] = set()
    for source in context.config.caption.reals:
        contents = read_real_source(source, context.folder.root)
        for skipped in contents.skipped:
            say(f"caption: {source.name}: left out {skipped.path}: {skipped.reason}")
        records = [record for record in contents.records if record.image_id not in seen]
        if len(records) < len(contents.records):
            twice = len(contents.records) - len(records)
            say(f"caption: {source.name}: {twice} images are in an earlier source already")
        seen |= {record.image_id for record in records}
        photographs += [_Photograph(source, record) for record in records]
        units += _missing_units(context, source, records)
    if units:
        _store(context, units)
    _make_prompts(context, photographs)


def _missing_units(context: RunContext, source: RealSource, records: Sequence[RealRecord]) -> list[RealUnitSpec]:
    name = real_generator_name(source)
    # Of every source: a photograph is in the dataset once, also when a source was renamed or another put before it.
    stored = context.dataset.rows(columns=["sha256"], label=0)["sha256"].to_pylist()
    committed = [commit for commit in context.dataset.commits().values() if commit.generator == name]
    return plan_real_units(
        records,
        source,
        context.folder.root / source.path,
        context.config.caption.unit_images,
        context.config.splits.test_fraction,
        context.config.splits.salt,
        [(commit.first, commit.count) for commit in committed],
        stored,
    )


def _store(context: RunContext, units: Sequence[RealUnitSpec]) -> None:
    images = sum(len(unit.images) for unit in units)
    say(f"caption: storing {images} real images")
    by_source: dict[str, list[Task]] = {}
    for unit in units:
        by_source.setdefault(unit.source.name, []).append(Task(unit))
    groups = (TaskGroup(name, name, iter(tasks), len(tasks)) for name, tasks in by_source.items())
    scheduler = Scheduler(groups, context.config.execute.attempts)
    with StageProgress("caption", images, "real images") as progress:

        def on_done(done: Done) -> None:
            progress.advance(commit_done(context, done).count)

        drive(scheduler, context.executor(), context.events, on_done, _refuse)


def _make_prompts(context: RunContext, photographs: Sequence[_Photograph]) -> None:
    path, config = context.folder.prompts, context.config.caption
    known = {prompt.source_image_id for prompt in read_prompts(path)} if path.exists() else set()
    missing = [photograph for photograph in photographs if photograph.record.image_id not in known]
    given = {p.record.image_id: p.record.caption for p in missing if config.given and p.record.caption}
    without = [p.record.image_id for p in missing if p.record.image_id not in given]
    made: dict[str, str] = {}
    captioner_pass = CaptionerPass(context, config.captioner) if config.captioner else None
    if without and captioner_pass is not None:
        made = captioner_pass.run(without, _refuse)
    elif without:
        say(f"caption: {len(without)} photographs have no caption and caption.captioner is null: they give no prompt")
    prompts = [prompt for p in missing if (prompt := _prompt(context, p, given, made)) is not None]
    appended = append_prompts(path, prompts)
    if prompts:
        blank = f", {appended.blank} blank ones dropped" if appended.blank else ""
        say(f"caption: {appended.added} new prompts: {len(given)} given, {len(made)} by the captioner{blank}")
    if captioner_pass is not None:
        captioner_pass.forget()


def _prompt(context: RunContext, photograph: _Photograph, given: dict[str, str], made: dict[str, str]) -> Prompt | None:
    record, config = photograph.record, context.config
    if record.image_id in given:
        text, source, revision = given[record.image_id], "caption", None
    elif record.image_id in made and config.caption.captioner is not None:
        text, source, revision = made[record.image_id], "blip", config.caption.captioner.revision
    else:
        return None
    split = split_of(record.split_group, config.splits.test_fraction, config.splits.salt)
    return make_prompt(record, photograph.source.name, text, source, split, revision)


def _refuse(outcome: Failed | Died) -> None:
    """Without its real images or captions a run is not the one that was asked for, so it stops here."""
    reason, detail = failure_reason(outcome)
    group = outcome.task.group
    what = "caption.captioner" if group == "captioner" else f"caption.reals: {group}"
    raise InputError(f"{what}: {reason}: {detail}")
