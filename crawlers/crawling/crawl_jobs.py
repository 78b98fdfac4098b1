"""The rows that a crawl has to make, in order: what a growing catalog had left out, the hub's listing, and names."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from crawlers.crawling.crawl_filters import listing_verdict
from crawlers.crawling.crawl_request import CrawlRequest
from crawlers.crawling.listing import ListedModel
from crawlers.recognition.eligibility import Verdict
from manifests.catalog import CatalogRow
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
        verdict: what the filters say of the listing's words; a row that they leave out needs no request.
        judged_again: the catalog has a row of this rank already, which left the model out.
        found: that row, when it holds all that was to be found and only a filter stood against it.
    """

    repo_id: str
    generator: str
    rank: int
    named: bool
    listed: ListedModel | None = None
    spec: GeneratorSpec | None = None
    verdict: Verdict = field(default_factory=Verdict)
    judged_again: bool = False
    found: CatalogRow | None = None


def crawl_jobs(
    request: CrawlRequest,
    listing: Iterable[ListedModel],
    *,
    first_rank: int = 1,
    is_known: Callable[[str], bool] = lambda repo_id: False,
    known_generators: frozenset[str] = frozenset(),
) -> Iterator[CrawlJob]:
    """Yield every row to be added; the same rows in the same order whenever it is asked again.

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
        verdict = Verdict() if asked_for else listing_verdict(request, model)
        yield CrawlJob(model.repo_id, generator_of(model.repo_id, own), rank, asked_for, model, own, verdict)
        rank += 1
    for spec in request.generators:
        if spec in specs.get(spec.repo_id, ()):
            named.discard(spec.repo_id)
            yield CrawlJob(spec.repo_id, spec.name, rank, True, None, spec)
            rank += 1
    for repo_id in dict.fromkeys(request.named):
        if repo_id in named:
            yield CrawlJob(repo_id, generator_of(repo_id, None), rank, True)
            rank += 1


def generator_of(repo_id: str, spec: GeneratorSpec | None) -> str:
    """Return the generator's folder-safe name; one that is too long for a folder ends in a hash instead."""
    if spec is not None:
        return spec.name
    name = generator_name(repo_id)
    return name if len(name) <= _NAME_LIMIT else f"{name[: _NAME_LIMIT - 13]}-{content_hash(repo_id)[:12]}"
