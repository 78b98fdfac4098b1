"""What was asked of the hub: the newest requests, in the order they came."""

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

KEPT = 200_000


@dataclass
class RequestRecord:
    """One request. ``status`` is 0 and ``sent`` grows while it is being answered."""

    method: str
    path: str
    """Path and query, as asked."""
    range: str | None
    status: int = 0
    sent: int = 0
    """Bytes of a file's body that were sent; 0 for API answers."""


class RequestLog:
    """Keeps the newest 200,000 requests and counts all."""

    def __init__(self) -> None:
        self.total = 0
        self._records: deque[RequestRecord] = deque(maxlen=KEPT)

    def begin(self, method: str, path: str, byte_range: str | None) -> RequestRecord:
        record = RequestRecord(method, path, byte_range)
        self._records.append(record)
        self.total += 1
        return record

    def since(self, number: int) -> list[dict[str, Any]]:
        """The records from request ``number`` (counted from 0 at the start) on."""
        dropped = self.total - len(self._records)
        return [asdict(record) for record in list(self._records)[max(0, number - dropped) :]]
