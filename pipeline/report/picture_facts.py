"""The values that every part of the report uses: a named fact, and a picture with what is known of it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of a list of facts; `code` marks ids and versions."""

    name: str
    value: str
    code: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """An image of the dataset that the page shows; `src` is relative to the page."""

    image_id: str
    src: str
    width: int
    height: int
    label: int
    generator: str
    prompt: str
    alt: str
    details: tuple[Fact, ...] = ()
    source: "Picture | None" = None
    """The real photograph that the prompt came from."""
    score: float | None = None
    """A detector's score, probability of fake."""

    @property
    def tiny(self) -> bool:
        """Small enough that the page shows it enlarged."""
        return max(self.width, self.height) <= 192
