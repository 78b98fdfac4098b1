import pickle

import pytest

from shards.statuses import Reason, Retry, Status, UnitFailure


def test_every_reason_has_a_status_and_every_status_a_reason() -> None:
    assert {reason.status for reason in Reason} == set(Status)
    assert len(Reason) == 31 and len(Status) == 11


def test_failed_statuses_are_those_without_an_image() -> None:
    assert [status for status in Status if not status.failed] == ["ok", "flagged", "degenerate"]


@pytest.mark.parametrize(
    ("retry", "statuses"),
    [
        (Retry.retry, {"load_failed", "oom", "timeout", "crashed"}),
        (Retry.after_credentials, {"gated"}),
        (Retry.never, {"ok", "flagged", "degenerate", "load_failed", "gone", "unsupported", "adapter_no_effect"}),
    ],
)
def test_retry_rules(retry: Retry, statuses: set[str]) -> None:
    assert {str(reason.status) for reason in Reason if reason.retry is retry} == statuses


def test_only_a_failed_download_makes_load_failed_worth_a_retry() -> None:
    worth_it = [r for r in Reason if r.status is Status.load_failed and r.retryable]
    assert worth_it == [Reason.download_failed, Reason.disk_budget]


def test_reasons_and_failures_survive_pickling() -> None:
    assert pickle.loads(pickle.dumps(Reason.nsfw)) is Reason.nsfw
    failure = pickle.loads(pickle.dumps(UnitFailure(Reason.device_oom, "12 GiB asked")))
    assert (failure.reason, failure.status, failure.detail) == (Reason.device_oom, Status.oom, "12 GiB asked")
    assert str(failure) == "oom (device_oom): 12 GiB asked"
