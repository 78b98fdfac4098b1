"""Draw a unit: its target draws, then replacements from its reserve until enough images are good.

Deterministic whatever the timing. Draws are cut into batches of the unit's frozen size, a short last batch is padded,
and a shortage is measured only when a whole round is judged: the next reserve draws, one for each image that is missing
and in their order, form the next round. Encoding and hashing run in one thread beside the sampling of the next batch;
nothing that decides waits on a clock.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from manifests.draws import Draw
from manifests.unit import UnitSpec
from samplers.base import Batch, SampledImage, Sampler
from samplers.guards import RepeatGuard, flat_reason
from samplers.images import EncodedImage, encode
from samplers.safety_checker import SafetyChecker, SafetyScore
from shards.statuses import Reason, Status


@dataclass(frozen=True)
class DrawnImage:
    """One draw and what became of it; the fields are a row's columns of the same names.

    `draw` is settled: its `class_label` is the class that was made, also where the plan left the choice to the model.
    `image` is what is stored: PNG bytes for ok draws, and for flagged ones when the unit keeps them. Size, hashes and
    score are given whenever there was an image, stored or not; `format` only when it is stored.
    """

    draw: Draw
    batch: int
    slot: int
    reason: Reason
    image: bytes | None
    sha256: str | None
    phash: str | None
    width: int | None
    height: int | None
    mode: str | None
    format: str | None
    nsfw_flag: bool | None
    nsfw_score: float | None
    prompt_sent: str | None
    truncated: bool

    @property
    def status(self) -> Status:
        """The status that the reason fixes."""
        return self.reason.status


def draw_unit(
    unit: UnitSpec,
    sampler: Sampler,
    checker: SafetyChecker | None,
    *,
    batch_size: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Iterator[DrawnImage]:
    """Yield the unit's draws in order: all targets, then the reserve draws that were needed.

    Args:
        unit: what to draw.
        sampler: the unit's generator, loaded.
        checker: scores every image; None leaves flag and score empty.
        batch_size: images sampled together; None for the unit's own. Another one gives other bytes, so it is for units
            that do not fit into memory otherwise.
        on_progress: called after each batch with the number of draws sampled so far.

    Raises:
        UnitFailure: the model failed; draws already yielded belong to a unit that has failed as a whole.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="encode") as encoder:
        size = batch_size or unit.batch_size
        drawing = _Drawing(unit, size, sampler, checker, encoder, on_progress or (lambda drawn: None))
        wanted, reserve = tuple(sampler.settled(draw) for draw in unit.draws), tuple(unit.reserve)
        while wanted:
            missing: list[Draw] = []
            for drawn in drawing.round(wanted):
                if drawn.status is not Status.ok:
                    missing.append(drawn.draw)
                yield drawn
            taken, reserve = reserve[: len(missing)], reserve[len(missing) :]
            wanted = tuple(sampler.settled(draw, replaced) for draw, replaced in zip(taken, missing, strict=False))


@dataclass(frozen=True)
class _Slot:
    """A sampled draw with its score, and its encoding under way."""

    draw: Draw
    sampled: SampledImage
    safety: SafetyScore | None
    encoding: Future[tuple[EncodedImage, Reason]] | None


class _Drawing:
    def __init__(
        self,
        unit: UnitSpec,
        batch_size: int,
        sampler: Sampler,
        checker: SafetyChecker | None,
        encoder: ThreadPoolExecutor,
        on_progress: Callable[[int], None],
    ) -> None:
        self._unit = unit
        self._batch_size = batch_size
        self._sampler = sampler
        self._checker = checker
        self._encoder = encoder
        self._on_progress = on_progress
        self._repeats = RepeatGuard()
        self._batches = 0
        self._sampled = 0

    def round(self, draws: tuple[Draw, ...]) -> Iterator[DrawnImage]:
        """Yield one round's draws in order, one batch behind the sampling."""
        size = self._batch_size
        previous: tuple[int, list[_Slot]] | None = None
        for start in range(0, len(draws), size):
            current = self._batches, self._sample(draws[start : start + size])
            self._batches += 1
            if previous is not None:
                yield from self._judge(*previous)
            previous = current
        if previous is not None:
            yield from self._judge(*previous)

    def _sample(self, draws: tuple[Draw, ...]) -> list[_Slot]:
        images = self._sampler.sample(Batch.padded(draws, self._batch_size))
        slots = []
        for draw, sampled in zip(draws, images, strict=True):
            image = sampled.image
            encoding = None if image is None else self._encoder.submit(_finish, image)
            safety = self._checker.score(image) if self._checker is not None and image is not None else None
            slots.append(_Slot(draw, sampled, safety, encoding))
        self._sampled += len(draws)
        self._on_progress(self._sampled)
        return slots

    def _judge(self, batch: int, slots: list[_Slot]) -> Iterator[DrawnImage]:
        for number, slot in enumerate(slots):
            encoded, flat = slot.encoding.result() if slot.encoding is not None else (None, Reason.none)
            reason = self._reason(slot, encoded, flat)
            stored = encoded is not None and (
                reason is Reason.none or (reason is Reason.nsfw and self._unit.keep_flagged)
            )
            yield DrawnImage(
                draw=slot.draw,
                batch=batch,
                slot=number,
                reason=reason,
                image=encoded.data if encoded is not None and stored else None,
                sha256=encoded.sha256 if encoded else None,
                phash=encoded.phash if encoded else None,
                width=encoded.width if encoded else None,
                height=encoded.height if encoded else None,
                mode=encoded.mode if encoded else None,
                format=encoded.format if encoded is not None and stored else None,
                nsfw_flag=slot.safety.flagged if slot.safety else None,
                nsfw_score=slot.safety.score if slot.safety else None,
                prompt_sent=slot.sampled.prompt_sent,
                truncated=slot.sampled.truncated,
            )

    def _reason(self, slot: _Slot, encoded: EncodedImage | None, flat: Reason) -> Reason:
        """The first that holds: no numbers, flat, flagged, repeated. A copy of a flagged image is flagged as well."""
        if encoded is None:
            return slot.sampled.raw_issue or Reason.nan
        repeated = self._repeats.repeated(encoded.sha256)
        if flat is not Reason.none:
            return flat
        if slot.safety is not None and slot.safety.flagged:
            return Reason.nsfw
        return Reason.repeated if repeated else Reason.none


def _finish(image: Image.Image) -> tuple[EncodedImage, Reason]:
    return encode(image), flat_reason(image)
