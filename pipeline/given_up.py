"""What the rows of a task that was given up say: the true reason, and what was tried before."""

from manifests.unit import UnitSpec
from pipeline.deaths import FATAL_SIGNALS
from pipeline.tasks import Died, Failed
from shards.statuses import Reason, Status


def failure_reason(outcome: Failed | Died) -> tuple[Reason, str]:
    """Return the reason and detail that rows of a given-up task carry."""
    if isinstance(outcome, Failed):
        work = outcome.task.work
        if outcome.reason.status is Status.oom and outcome.task.attempt > 1 and isinstance(work, UnitSpec):
            sizes = ", ".join(str(work.batch_size >> halvings) for halvings in range(outcome.task.halvings + 1))
            return outcome.reason, f"{outcome.detail} (on a fresh worker, in batches of {sizes})"
        return outcome.reason, outcome.detail
    if outcome.signal in FATAL_SIGNALS:
        return Reason.worker_signal, f"the worker died by signal {outcome.signal} on every try, the last one alone"
    return Reason.quarantined, "workers died under it too often, the last one fresh and alone"
