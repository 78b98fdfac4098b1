"""The crawl stage: the catalog of the models that the config asks for."""

from collections import Counter

from crawlers.catalog import read_catalog
from crawlers.catalog_builder import crawl as crawl_hub
from crawlers.crawl_request import CrawlRequest
from manifests.catalog import CatalogRow
from manifests.errors import InputError
from manifests.library import load_generators
from pipeline.config import RunConfig
from pipeline.exit_codes import ExitCode
from pipeline.hub_token import hub_token
from pipeline.progress import console, say
from pipeline.run_folder import RunFolder


def crawl(config: RunConfig, folder: RunFolder, *, refresh: bool = False) -> list[CatalogRow]:
    """Write or extend the run's catalog and return its rows; asks the hub nothing that the catalog answers.

    Raises:
        InputError: nothing is asked for, the hub does not answer, a manifest is broken, or the folder cannot be
            written.
    """
    asked = config.crawl.count or config.crawl.models or config.crawl.manifests
    if not asked and (refresh or not folder.catalog.exists()):
        raise InputError(
            "crawl: nothing is asked for: set crawl.count, crawl.models or crawl.manifests (or give --count or --model)"
        )
    try:
        folder.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output: cannot write to {folder.root}: {error.strerror}") from error
    with console.status("crawl: asking the hub") as status:
        crawl_hub(request_of(config), folder.catalog, progress=lambda text: status.update(text), refresh=refresh)
    rows = read_catalog(folder.catalog)
    reasons = Counter(row.reason for row in rows if not row.eligible)
    left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    say(
        f"crawl: {len(rows)} models, {sum(row.eligible for row in rows)} eligible"
        + (f"; {left_out}" if left_out else "")
    )
    return rows


def request_of(config: RunConfig) -> CrawlRequest:
    """Return what the config asks of the hub.

    Raises:
        InputError: a manifest is missing or broken.
    """
    options = config.crawl
    return CrawlRequest(
        endpoint=config.hub.endpoint,
        token=hub_token(),
        count=options.count,
        min_downloads=options.min_downloads,
        named=options.models,
        generators=tuple(generator for path in options.manifests for generator in load_generators(path)),
        licences_allowed=options.licences_allow,
        licences_denied=options.licences_deny,
        max_per_author=options.max_per_author,
    )


def named_but_left_out(config: RunConfig, rows: list[CatalogRow]) -> dict[str, str]:
    """Return repo id → reason of the models that the config names and that cannot be sampled."""
    manifests = (generator for path in config.crawl.manifests for generator in load_generators(path))
    wanted = {*config.crawl.models, *(generator.repo_id for generator in manifests)}
    return {row.repo_id: row.reason for row in rows if row.repo_id in wanted and not row.eligible}


def crawl_alone(config: RunConfig, *, refresh: bool) -> ExitCode:
    """The `crawl` command."""
    folder = RunFolder.at(config.output)
    left_out = named_but_left_out(config, crawl(config, folder, refresh=refresh))
    print(folder.catalog)
    if left_out:
        say("crawl: named in the config and left out: " + ", ".join(f"{k} ({v})" for k, v in left_out.items()))
        return ExitCode.DONE_WITH_FAILURES
    return ExitCode.DONE
