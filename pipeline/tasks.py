"""What is leased to a worker, and what comes back. All of it is picklable."""

from dataclasses import dataclass, field
from enum import Enum

from manifests.errors import InputError
from manifests.generator import GeneratorSpec
from manifests.unit import RealUnitSpec, UnitSpec
from pipeline.config import CaptionerConfig
from shards.statuses import Reason
from shards.writer import Receipt


@dataclass(frozen=True)
class StoredImage:
    """Where a committed image's bytes lie in the dataset."""

    image_id: str
    file: str
    offset: int
    length: int


@dataclass(frozen=True)
class CaptionChunk:
    """Photographs to caption, in the order of their batches; read from the dataset, which every worker sees."""

    chunk: str
    images: tuple[StoredImage, ...]
    captioner: CaptionerConfig


Work = UnitSpec | RealUnitSpec | CaptionChunk


@dataclass(frozen=True)
class Task:
    """One piece of work and how often it was tried.

    Attributes:
        halvings: how often the unit's batch size is halved, because it did not fit into memory otherwise.
        final_pass: the unit killed too many workers, and this is its last chance: alone, on a fresh worker.
        upcoming: generators that this worker will probably get next; it may fetch their files meanwhile.
    """

    work: Work
    generation: int = 0
    attempt: int = 1
    halvings: int = 0
    final_pass: bool = False
    upcoming: tuple[GeneratorSpec, ...] = field(default=(), compare=False, repr=False)

    @property
    def id(self) -> str:
        """The unit's id, or the chunk's."""
        return self.work.chunk if isinstance(self.work, CaptionChunk) else self.work.unit

    @property
    def group(self) -> str:
        """Tasks of one group share loaded models: a generator's units, a source's images, the captioner."""
        if isinstance(self.work, UnitSpec):
            return self.work.generator.name
        return "captioner" if isinstance(self.work, CaptionChunk) else self.work.source.name

    @property
    def family(self) -> str:
        """Groups of one family may share components."""
        return self.work.generator.family if isinstance(self.work, UnitSpec) else self.group


@dataclass(frozen=True)
class Usage:
    """Where a task's time went, in seconds, and what it moved, in bytes. For people, never for a decision.

    Attributes:
        waited: for files that were not here yet.
        loading: from files to a model that can be called.
        sampling: of batches, the checker's scoring and the writing of the shard included.
        fetched: bytes that came from the hub for this task, prefetched ones included.
        saved: bytes that another model had brought already.
    """

    waited: float = 0.0
    loading: float = 0.0
    sampling: float = 0.0
    fetched: int = 0
    saved: int = 0


@dataclass(frozen=True)
class Done:
    """The work succeeded: a published shard's receipt, or captions."""

    task: Task
    seconds: float
    host: str
    receipt: Receipt | None = None
    captions: tuple[str, ...] = ()
    environment: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    log_tail: str = ""
    usage: Usage = Usage()


@dataclass(frozen=True)
class Failed:
    """The work failed in a way that has a name."""

    task: Task
    reason: Reason
    detail: str
    seconds: float = 0.0
    host: str = ""
    log_tail: str = ""
    usage: Usage = Usage()


@dataclass(frozen=True)
class Died:
    """The worker that held the task is gone. `signal` is 0 when unknown, as when a node is lost."""

    task: Task
    signal: int
    log_tail: str = ""


@dataclass(frozen=True)
class Bug:
    """The worker raised what nobody foresaw: our fault, not the model's, so nothing is committed for it."""

    traceback: str


Outcome = Done | Failed | Died | Bug | InputError
"""An InputError is a user's mistake that only a worker can see, such as a full disk."""


class Verdict(Enum):
    """What becomes of an outcome."""

    COMMIT = "commit"
    RETRY = "retry"
    GIVE_UP = "give up"
