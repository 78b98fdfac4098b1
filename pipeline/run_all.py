"""The whole job, stage after stage, and what it came to."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import RunConfig
from pipeline.context import RunContext, open_run
from pipeline.exit_codes import ExitCode
from pipeline.progress import say
from pipeline.report.build import build_report
from pipeline.stages.audit import audit
from pipeline.stages.caption import caption
from pipeline.stages.crawl import crawl, named_but_left_out
from pipeline.stages.sample import SampleOutcome, sample

if TYPE_CHECKING:
    from detectors.evaluation import EvaluationReport


@dataclass
class RunSummary:
    """What a run came to; empty `left_out` and `sampled.failed_units` mean that all was done."""

    left_out: dict[str, str]
    """repo id → catalog reason of models that the config names and that cannot be sampled"""
    sampled: SampleOutcome
    evaluations: "dict[str, EvaluationReport]" = field(default_factory=dict)
    report: Path | None = None

    @property
    def exit_code(self) -> ExitCode:
        if self.sampled.bugs:
            return ExitCode.OUR_BUG
        return ExitCode.DONE_WITH_FAILURES if self.left_out or self.sampled.failed_units else ExitCode.DONE

    def problems(self) -> str:
        """One line that says what was not done, empty when all was."""
        parts = []
        if self.sampled.failed_units:
            failed = ", ".join(f"{name} ({why})" for name, why in sorted(self.sampled.failed_units.items()))
            parts.append(f"{len(self.sampled.failed_units)} generators with failed units: {failed}")
        if self.left_out:
            named = ", ".join(f"{name} ({why})" for name, why in sorted(self.left_out.items()))
            parts.append(f"{len(self.left_out)} named models left out: {named}")
        return "; ".join(parts)


def run_stages(config: RunConfig) -> RunSummary:
    """Run every stage; each does only what is missing.

    Raises:
        InputError: see each stage.
        Interrupted: Ctrl-C or SIGTERM.
    """
    with open_run(config) as context:
        started = time.monotonic()
        context.events.write("run", name=context.config.name)
        crawled = crawl(context.config, context.folder)
        caption(context)
        sampled = sample(context)
        context.release_workers()
        audit(context)
        summary = RunSummary(named_but_left_out(crawled), sampled)
        if context.config.detectors:
            summary.evaluations = _train_and_evaluate(context)
        summary.report = build_report(context.folder.root)
        context.events.write("finished", seconds=round(time.monotonic() - started, 1))
    return summary


def run_all(config: RunConfig) -> ExitCode:
    """The `run` command."""
    summary = run_stages(config)
    say(f"report: {summary.report}")
    if summary.problems():
        say(f"done, but {summary.problems()}")
    return summary.exit_code


def _train_and_evaluate(context: RunContext) -> "dict[str, EvaluationReport]":
    from pipeline.stages.evaluate import evaluate
    from pipeline.stages.train import train

    train(context)
    return evaluate(context)
