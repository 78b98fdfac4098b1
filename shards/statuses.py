"""What became of a draw: a closed list of statuses, a closed list of reasons, and whether a retry can help.

Every draw is a row and every row has exactly one status and one reason. The reason fixes the status and the retry rule,
so neither can contradict the other: code names a `Reason` and reads the rest from it.
"""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """What became of a draw. `ok`, `flagged` and `degenerate` made an image; the others made none."""

    ok = "ok"
    flagged = "flagged"
    degenerate = "degenerate"
    load_failed = "load_failed"
    gone = "gone"
    gated = "gated"
    oom = "oom"
    timeout = "timeout"
    crashed = "crashed"
    unsupported = "unsupported"
    adapter_no_effect = "adapter_no_effect"

    @property
    def failed(self) -> bool:
        """True when the draw ended without an image to look at."""
        return self not in (Status.ok, Status.flagged, Status.degenerate)


class Retry(StrEnum):
    """Whether doing the same work again can end differently."""

    retry = "retry"
    never = "never"
    after_credentials = "after_credentials"


class Reason(StrEnum):
    """Why a draw has its status. `.status` and `.retry` follow from the reason."""

    none = "none"

    nsfw = "nsfw"

    nan = "nan"
    constant = "constant"
    near_constant = "near_constant"
    repeated = "repeated"

    corrupt_weights = "corrupt_weights"
    missing_file = "missing_file"
    bad_config = "bad_config"
    checksum_mismatch = "checksum_mismatch"
    invalid_pipeline = "invalid_pipeline"
    download_failed = "download_failed"
    disk_budget = "disk_budget"

    repo_not_found = "repo_not_found"
    revision_not_found = "revision_not_found"

    gated_repo = "gated_repo"

    device_oom = "device_oom"
    host_oom = "host_oom"

    download_timeout = "download_timeout"
    unit_timeout = "unit_timeout"

    worker_signal = "worker_signal"
    worker_lost = "worker_lost"
    quarantined = "quarantined"
    sampling_error = "sampling_error"
    device_lost = "device_lost"
    internal_error = "internal_error"

    pipeline_class = "pipeline_class"
    call_signature = "call_signature"
    remote_code = "remote_code"

    no_keys_loaded = "no_keys_loaded"
    no_pixel_changed = "no_pixel_changed"

    @property
    def status(self) -> Status:
        """The one status that a draw with this reason has."""
        return _OUTCOME[self][0]

    @property
    def retry(self) -> Retry:
        """Whether a later generation may end differently."""
        return _OUTCOME[self][1]

    @property
    def retryable(self) -> bool:
        """True when a retry can help, at once or after credentials."""
        return self.retry is not Retry.never


_OUTCOME: dict[Reason, tuple[Status, Retry]] = {
    Reason.none: (Status.ok, Retry.never),
    Reason.nsfw: (Status.flagged, Retry.never),
    Reason.nan: (Status.degenerate, Retry.never),
    Reason.constant: (Status.degenerate, Retry.never),
    Reason.near_constant: (Status.degenerate, Retry.never),
    Reason.repeated: (Status.degenerate, Retry.never),
    Reason.corrupt_weights: (Status.load_failed, Retry.never),
    Reason.missing_file: (Status.load_failed, Retry.never),
    Reason.bad_config: (Status.load_failed, Retry.never),
    Reason.checksum_mismatch: (Status.load_failed, Retry.never),
    Reason.invalid_pipeline: (Status.load_failed, Retry.never),
    Reason.download_failed: (Status.load_failed, Retry.retry),
    Reason.disk_budget: (Status.load_failed, Retry.retry),
    Reason.repo_not_found: (Status.gone, Retry.never),
    Reason.revision_not_found: (Status.gone, Retry.never),
    Reason.gated_repo: (Status.gated, Retry.after_credentials),
    Reason.device_oom: (Status.oom, Retry.retry),
    Reason.host_oom: (Status.oom, Retry.retry),
    Reason.download_timeout: (Status.timeout, Retry.retry),
    Reason.unit_timeout: (Status.timeout, Retry.retry),
    Reason.worker_signal: (Status.crashed, Retry.retry),
    Reason.worker_lost: (Status.crashed, Retry.retry),
    Reason.quarantined: (Status.crashed, Retry.retry),
    Reason.sampling_error: (Status.crashed, Retry.retry),
    Reason.device_lost: (Status.crashed, Retry.retry),
    Reason.internal_error: (Status.crashed, Retry.retry),
    Reason.pipeline_class: (Status.unsupported, Retry.never),
    Reason.call_signature: (Status.unsupported, Retry.never),
    Reason.remote_code: (Status.unsupported, Retry.never),
    Reason.no_keys_loaded: (Status.adapter_no_effect, Retry.never),
    Reason.no_pixel_changed: (Status.adapter_no_effect, Retry.never),
}


class UnitFailure(Exception):  # noqa: N818 - a failure of the unit is an outcome that is recorded, not an error of ours
    """A typed failure of fetching, loading or sampling: the draws it ends become rows with this reason.

    `detail` is free text; it goes to the commit's log tail, never into a row.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)  # both in args, so that it survives pickling between processes
        self.reason = reason
        self.detail = detail

    @property
    def status(self) -> Status:
        """The status that the reason fixes."""
        return self.reason.status

    def __str__(self) -> str:
        return f"{self.status} ({self.reason}): {self.detail}"
