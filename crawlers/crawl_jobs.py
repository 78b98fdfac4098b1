"""The rows that a crawl has to make, in rank order: the listing first, then what was asked for by name only."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from crawlers.crawl_request import CrawlRequest
from crawlers.listing import ListedModel
from manifests.generator import GeneratorSpec
from manifests.names import generator_name
from shards.identifiers import content_hash

_NAME_LIMIT = 128


@dataclass(frozen=True)
class CrawlJob:
    """One row to be made.

    Attributes:
        listed: what the listing said of the repo; None for a repo that is there by name only.
        spec: the manifest entry that the row is for.
    """

    repo_id: str
    generator: str
    rank: int
    named: bool
    listed: ListedModel | None = None
    spec: GeneratorSpec | None = None


def crawl_jobs(
    request: CrawlRequest,
    listing: Iterable[ListedModel],
    *,
    first_rank: int = 1,
    is_known: Callable[[str], bool] = lambda repo_id: False,
    known_generators: frozenset[str] = frozenset(),
) -> Iterator[CrawlJob]:
    """Yield every row to be made; the same rows in the same order whenever it is asked again.

    A manifest entry takes the place of its repo in the listing; a second entry for the same repo is a row of its own.

    Args:
        first_rank: rank of the first row; a catalog that grows goes on behind its last.
        is_known: says of a repo that the catalog has it already.
        known_generators: manifest entries that the catalog has already.
    """
    specs: dict[str, list[GeneratorSpec]] = {}
    for spec in request.generators:
        if spec.name not in known_generators:
            specs.setdefault(spec.repo_id, []).append(spec)
    named = {repo_id for repo_id in request.named if not is_known(repo_id)}
    rank = first_rank
    for model in listing:
        entries = specs.get(model.repo_id)
        own = entries.pop(0) if entries else None
        asked_for = own is not None or model.repo_id in named
        named.discard(model.repo_id)
        yield CrawlJob(model.repo_id, _name(model.repo_id, own), rank, asked_for, model, own)
        rank += 1
    for spec in request.generators:
        if spec in specs.get(spec.repo_id, ()):
            named.discard(spec.repo_id)
            yield CrawlJob(spec.repo_id, spec.name, rank, True, None, spec)
            rank += 1
    for repo_id in dict.fromkeys(request.named):
        if repo_id in named:
            yield CrawlJob(repo_id, _name(repo_id, None), rank, True)
            rank += 1


def _name(repo_id: str, spec: GeneratorSpec | None) -> str:
    """Return the generator's folder-safe name; one that is too long for a folder ends in a hash instead."""
    if spec is not None:
        return spec.name
    name = generator_name(repo_id)
    return name if len(name) <= _NAME_LIMIT else f"{name[: _NAME_LIMIT - 13]}-{content_hash(repo_id)[:12]}"
