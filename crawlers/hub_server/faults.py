"""Faults that a running hub is told to show: the board that holds them, and what each one is.

Behaviour in ``.hub.yaml`` is fixed when the server starts; these come and go while it runs, so a test can disturb a
long job at moments of its own choosing. Every armed fault is shown a bounded number of times and the board tells how
often each was, so a test can say which of its faults really met a client.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from crawlers.hub_server.pacing import Link
from manifests.frozen import FrozenModel

FaultKind = Literal["rate_limit", "broken", "outage", "cut", "corrupt", "slow"]
"""What a client meets: 429 with Retry-After; 503; 503 whatever anybody asks for a while; a body that ends early; a body
whose last byte differs; a body that trickles. The first two befall any request about a repo, an outage begins with one,
and the others befall a file's body."""


class Fault(FrozenModel):
    """One fault and how often it is shown, to requests about one model repo or, without `repo`, about any."""

    kind: FaultKind
    repo: str | None = None
    times: Annotated[int, Field(ge=1, strict=True)] = 1
    after: Annotated[int, Field(ge=0, strict=True)] = 0
    """Fitting requests that are answered as usual before the first that is not."""
    retry_after: Annotated[int, Field(ge=0, strict=True)] = 1
    """Seconds, for ``rate_limit``."""
    after_bytes: Annotated[int, Field(ge=0, strict=True)] = 1000
    """Where ``cut`` ends a body; shorter bodies are left alone."""
    bytes_per_second: Annotated[float, Field(gt=0)] = 100_000.0
    """The pace of ``slow``."""
    seconds: Annotated[float, Field(gt=0)] = 30.0
    """How long ``outage`` lasts."""


@dataclass
class ArmedFault:
    """A fault on the board. It is spent when it was shown `fault.times` times."""

    number: int
    fault: Fault
    shown: int = 0
    spared: int = 0
    link: Link = field(init=False)

    def __post_init__(self) -> None:
        self.link = Link(self.fault.bytes_per_second)

    def as_json(self) -> dict[str, Any]:
        """Number, how often it was shown, and the fault itself."""
        return {"number": self.number, "shown": self.shown, "fault": self.fault.model_dump()}


class FaultBoard:
    """The faults that were armed since the server started, oldest first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._armed: list[ArmedFault] = []
        self._clock = clock
        self._out_until = -math.inf

    def arm(self, fault: Fault) -> ArmedFault:
        """Add a fault; the oldest that fits is shown first."""
        armed = ArmedFault(len(self._armed), fault)
        self._armed.append(armed)
        return armed

    def all(self) -> list[ArmedFault]:
        """Every fault ever armed, spent ones too."""
        return list(self._armed)

    def disarm(self) -> None:
        """Show nothing more of what is armed; what was shown stays counted."""
        for armed in self._armed:
            armed.fault = armed.fault.model_copy(update={"times": armed.shown})
        self._out_until = -math.inf

    @property
    def out(self) -> bool:
        """Whether an outage lasts."""
        return self._clock() < self._out_until

    def go_out(self, repo: str) -> bool:
        """Begin the next outage if there is one that befalls a request about `repo`; return whether one lasts."""
        if not self.out and (armed := self.take("outage", repo)) is not None:
            self._out_until = self._clock() + armed.fault.seconds
        return self.out

    def take(self, kind: FaultKind, repo: str, body_bytes: int | None = None) -> ArmedFault | None:
        """Return the next fault of this kind that befalls a request about `repo`, and count it as shown.

        `body_bytes` is the length of the body about to be sent, which a cut must fall into.
        """
        for armed in self._armed:
            fault = armed.fault
            fits = fault.kind == kind and fault.repo in (None, repo) and armed.shown < fault.times
            if not fits or (kind == "cut" and body_bytes is not None and body_bytes <= fault.after_bytes):
                continue
            if armed.spared < fault.after:
                armed.spared += 1
                return None
            armed.shown += 1
            return armed
        return None
