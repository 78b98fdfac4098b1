"""One hub's rate limits, kept by all threads of a client together.

A hub counts the requests of a user, not of a thread: when one thread is told to wait, every other one that went on
asking would be refused too. So a wait that the hub asks for holds back all requests of its bucket, and where the
hub announces that little of its quota is left, the rest is spread over the time until the quota is new.

The public hub counts in buckets, "api" and "resolvers" (files) among them, over fixed windows of five minutes, and
announces them in the headers `RateLimit` and `RateLimit-Policy` of the IETF draft.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from crawlers.hub.hub_errors import ClientClosedError

API, RESOLVERS = "api", "resolvers"
LOW_SHARE = 0.1
"""Of a quota: with less than this left, requests are spread over the rest of the window."""
LOW_REQUESTS = 20
"""The same where the hub does not say how large the quota is."""


@dataclass(frozen=True)
class Quota:
    """What the hub announced last of one bucket: requests left, seconds until they are new, and the whole quota."""

    remaining: int
    reset_seconds: int
    limit: int | None = None
    window_seconds: int | None = None

    @property
    def low(self) -> bool:
        return self.remaining < (self.limit * LOW_SHARE if self.limit is not None else LOW_REQUESTS)


@dataclass
class _Bucket:
    """Times are of the monotonic clock, seconds."""

    closed_until: float = 0.0
    next_slot: float = 0.0
    interval: float = 0.0
    paced_until: float = 0.0
    asked: int = 0
    quota: Quota | None = None


class RateLimits:
    """Says when the next request may go out. Safe to share between threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets = {API: _Bucket(), RESOLVERS: _Bucket()}
        self._closed = threading.Event()

    @staticmethod
    def bucket_of(url: str) -> str:
        """Return the bucket that the hub counts a request in."""
        return RESOLVERS if "/resolve/" in urlsplit(url).path else API

    def quota(self, bucket: str) -> Quota | None:
        """Return what the hub announced last; None if it announces nothing."""
        return self._buckets[bucket].quota

    def asked(self, bucket: str) -> int:
        """Return how many requests went out, those that were asked again included."""
        return self._buckets[bucket].asked

    def wait(self, bucket: str) -> None:
        """Return when a request may go out, and count it.

        Raises:
            ClientClosedError: the client was closed meanwhile.
        """
        self.sleep(0)  # of a closed client, nothing more goes out
        while (seconds := self._take_slot(bucket)) > 0:
            self.sleep(seconds)

    def sleep(self, seconds: float) -> None:
        """Sleep, but not longer than the client lives.

        Raises:
            ClientClosedError: the client was closed meanwhile.
        """
        if self._closed.wait(seconds):
            raise ClientClosedError("the crawl has ended")

    def refused(self, bucket: str, seconds: float) -> None:
        """The hub asked to wait: nobody asks before that."""
        with self._lock:
            state = self._buckets[bucket]
            state.closed_until = max(state.closed_until, self._clock() + seconds)

    def heard(self, bucket: str, headers: Mapping[str, str]) -> None:
        """Read what an answer announces of the quota; where nothing is left, the next is waited for, not asked for."""
        from huggingface_hub.utils import parse_ratelimit_headers

        info = parse_ratelimit_headers(headers)
        if info is None:
            return
        quota = Quota(info.remaining, info.reset_in_seconds, info.limit, info.window_seconds)
        with self._lock:
            state, now = self._buckets[bucket], self._clock()
            state.quota = quota
            if quota.remaining == 0:
                state.closed_until = max(state.closed_until, now + quota.reset_seconds)
            elif quota.low:
                state.interval = quota.reset_seconds / quota.remaining
                state.paced_until = now + quota.reset_seconds
            else:
                state.interval = 0.0

    def close(self) -> None:
        """End every wait: threads that sleep here would keep a process from ending for as long as the hub asked."""
        self._closed.set()

    def _take_slot(self, bucket: str) -> float:
        """Return 0 when a request may go out now, else the seconds after which to ask again."""
        with self._lock:
            state, now = self._buckets[bucket], self._clock()
            if now < state.closed_until:
                # Spread, so that all threads do not ask in the same instant.
                return state.closed_until - now + random.uniform(0.01, 0.25)
            if state.interval and now < state.paced_until:
                if now < state.next_slot:
                    return state.next_slot - now
                state.next_slot = now + state.interval
            state.asked += 1
            return 0.0
