"""A hub's limits hold for all threads of a client: nobody hammers on while one is told to wait."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from scripted_hub import scripted_hub

from crawlers.hub.hub_client import HubClient
from crawlers.hub.hub_errors import ClientClosedError, HubBusyError
from crawlers.hub.rate_limits import API, RESOLVERS, Quota, RateLimits
from crawlers.hub.retrying import RetryPolicy
from crawlers.hub_server.server import HubServer

QUICK = RetryPolicy(attempts=4, first_wait=0.01)


class FakeTime(RateLimits):
    """Limits whose clock goes on by sleeping only."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__(clock=lambda: self.now)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def at(self, bucket: str) -> float:
        """Return when the next request of this bucket goes out."""
        self.wait(bucket)
        return self.now - 1000.0


def announced(remaining: int, reset: int, limit: int | None = None, bucket: str = "api") -> dict[str, str]:
    policy = {} if limit is None else {"RateLimit-Policy": f'"fixed window";"{bucket}";q={limit};w=300'}
    return {"RateLimit": f'"{bucket}";r={remaining};t={reset}', **policy}


def test_one_refusal_holds_back_every_thread(hub_folder: Any) -> None:
    """The toy hub refuses one repo for two seconds; what other threads want waits for the same two seconds."""
    hub_folder.sd("a/limited", behaviour={"rate_limit": {"requests": 1, "retry_after": 2}})
    for number in range(6):
        hub_folder.sd(f"a/fine-{number}")
    with HubServer(hub_folder.root) as hub, ThreadPoolExecutor(8) as pool:
        client = HubClient(hub.endpoint, policy=QUICK)
        started = time.monotonic()
        first = pool.submit(client.model_info, "a/limited")
        while not hub.requests():
            time.sleep(0.01)
        time.sleep(0.2)  # the refusal has reached the client
        others = [pool.submit(client.model_info, f"a/fine-{number}") for number in range(6)]
        time.sleep(0.8)
        assert [record.status for record in hub.requests()] == [429]
        assert not any(other.done() for other in others)
        assert first.result().id == "a/limited"
        assert sorted(other.result().id for other in others) == [f"a/fine-{number}" for number in range(6)]
        assert time.monotonic() - started >= 2.0
        assert [record.status for record in hub.requests()] == [429] + [200] * 7
        assert client.limits.asked(API) == 8


def test_the_buckets_are_apart(hub_folder: Any) -> None:
    """Being told to wait with descriptions says nothing of files: the public hub counts them apart."""
    limits = FakeTime()
    limits.refused(API, 50)
    assert limits.at(RESOLVERS) == 0.0
    assert 50.0 <= limits.at(API) < 50.3
    assert RateLimits.bucket_of("https://h/a/b/resolve/main/x.json?a=1") == RESOLVERS
    for path in ("api/models?filter=diffusers", "api/models/a/b/tree/main?recursive=true", "api/whoami-v2"):
        assert RateLimits.bucket_of(f"https://h/{path}") == API


def test_a_shorter_wait_does_not_undo_a_longer_one() -> None:
    limits = FakeTime()
    limits.refused(API, 100)
    limits.refused(API, 5)
    assert limits.at(API) >= 100


def test_the_last_requests_of_a_window_are_spread_over_it() -> None:
    limits = FakeTime()
    limits.heard(API, announced(remaining=500, reset=200, limit=1000))
    assert [limits.at(API) for _ in range(4)] == [0.0] * 4  # plenty is left
    limits.heard(API, announced(remaining=50, reset=200, limit=1000))
    assert [limits.at(API) for _ in range(4)] == pytest.approx([0.0, 4.0, 8.0, 12.0])
    assert limits.quota(API) == Quota(50, 200, 1000, 300)
    limits.heard(API, announced(remaining=1000, reset=300, limit=1000))
    assert len({limits.at(API) for _ in range(4)}) == 1  # a new window
    limits.heard(API, announced(remaining=2, reset=10))  # without a policy, 20 are few
    before = limits.at(API)
    assert limits.at(API) == pytest.approx(before + 5)


def test_a_pace_ends_with_its_window() -> None:
    limits = FakeTime()
    limits.heard(API, announced(remaining=2, reset=10, limit=1000))
    assert [limits.at(API) for _ in range(2)] == pytest.approx([0.0, 5.0])
    limits.now += 5.1
    assert len({limits.at(API) for _ in range(5)}) == 1


def test_nothing_left_is_waited_out_before_anyone_is_refused() -> None:
    limits = FakeTime()
    limits.heard(API, announced(remaining=0, reset=30, limit=500))
    assert 30.0 <= limits.at(API) < 30.3


def test_a_hub_that_announces_its_limits_is_never_overrun() -> None:
    """A real client against a window of 12 requests in 2 seconds that refuses the 13th: it never comes to that."""
    lock, window = threading.Lock(), [time.monotonic(), 0.0]

    def reply(path: str, number: int) -> Any:
        with lock:
            now = time.monotonic()
            if now - window[0] >= 2.0:
                window[:] = [now, 0.0]
            window[1] += 1
            left, reset = 12 - int(window[1]), max(1, round(2.0 - (now - window[0]) + 0.5))
        if left < 0:
            return 429, {"error": "too many"}, announced(0, reset, 12) | {"Retry-After": str(reset)}
        return 200, {"id": path.removeprefix("/api/models/")}, announced(left, reset, 12)

    with scripted_hub(reply) as hub, ThreadPoolExecutor(2) as pool:
        client = HubClient(hub.endpoint, policy=QUICK)
        found = list(pool.map(lambda number: client.model_info(f"a/m-{number}", files=False).id, range(30)))
        assert found == [f"a/m-{number}" for number in range(30)]
        assert len(hub.asked) <= 32  # two threads may have been under way when the window closed


@pytest.mark.parametrize("header", [{"Retry-After": "1"}, announced(0, 1, 500)])
def test_either_header_is_believed(header: dict[str, str]) -> None:
    def reply(path: str, number: int) -> Any:
        return (429, {}, header) if number == 0 else (200, {"id": "a/b"}, {})

    with scripted_hub(reply) as hub:
        assert HubClient(hub.endpoint, policy=QUICK).model_info("a/b", files=False).id == "a/b"
        assert hub.asked[1][1] - hub.asked[0][1] >= 1.0


def test_closing_a_client_ends_its_waits() -> None:
    """Threads that slept on would keep the process from ending for as long as the hub asked."""
    with scripted_hub(lambda path, number: (429, {}, {"Retry-After": "600"})) as hub, ThreadPoolExecutor(3) as pool:
        client = HubClient(hub.endpoint, policy=QUICK)
        waiting = [pool.submit(client.model_info, f"a/m-{number}") for number in range(3)]
        time.sleep(0.5)
        client.close()
        for future in waiting:
            with pytest.raises(ClientClosedError):
                future.result(timeout=60)  # a tenth of what the hub asked for


def test_a_wait_that_nobody_waits_for_holds_back_nobody() -> None:
    def reply(path: str, number: int) -> Any:
        return (429, {}, {"Retry-After": "3600"}) if "greedy" in path else (200, {"id": "a/fine"}, {})

    with scripted_hub(reply) as hub:
        client = HubClient(hub.endpoint, policy=QUICK)
        with pytest.raises(HubBusyError):
            client.model_info("a/greedy")
        started = time.monotonic()
        assert client.model_info("a/fine").id == "a/fine"
        assert time.monotonic() - started < 60  # of the hour that the other was told


def test_the_policy_tells_of_waits_as_they_begin() -> None:
    told: list[float] = []

    def ask() -> str:
        if len(told) < 2:
            raise HubBusyError("429", retry_after=0.01)
        return "answer"

    assert QUICK.call(ask, sleep=lambda seconds: None, refused=told.append) == "answer"
    assert told == [0.01, 0.01]
