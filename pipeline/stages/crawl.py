"""The crawl stage: the catalog of the models that the config asks for."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from crawlers.crawling.catalog_builder import crawl as crawl_hub
from crawlers.crawling.crawl_parts import CrawlParts
from crawlers.crawling.crawl_request import CrawlRequest
from crawlers.crawling.crawl_result import CrawlResult, standing_catalog
from crawlers.crawling.journal import read_lines
from crawlers.hub.hub_errors import HubError
from manifests.errors import InputError, system_words
from manifests.library import load_generators
from pipeline.config import RunConfig
from pipeline.exit_codes import ExitCode
from pipeline.hub_token import hub_token
from pipeline.interruption import HubOutage
from pipeline.progress import console, say
from pipeline.run_folder import RunFolder
from shards.run_lock import RunLock


def crawl(config: RunConfig, folder: RunFolder, *, refresh: bool = False) -> CrawlResult:
    """Write or extend the run's catalog; asks the hub nothing that the catalog answers.

    A config that asks for nothing takes the catalog as it stands.

    Raises:
        InputError: nothing is asked for and there is no catalog, the hub has never answered, a manifest is broken, or
            the folder cannot be written.
        HubOutage: the hub has stopped to answer.
    """
    asked = _asks(config)
    result = None if asked or refresh else standing_catalog(folder.catalog)
    if not asked and result is None:
        raise InputError(
            "crawl: nothing is asked for: set crawl.count, crawl.models or crawl.manifests (or give --count or --model)"
        )
    if result is None:
        try:
            folder.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"output: cannot write to {folder.root}: {system_words(error)}") from error
        with console.status("crawl: asking the hub") as status, _outages(folder.catalog):
            result = crawl_hub(
                request_of(config), folder.catalog, progress=lambda text: status.update(text), refresh=refresh
            )
    reasons = sorted((reason, count) for reason, count in result.reasons.items() if reason != "ok")
    left_out = ", ".join(f"{count} {reason}" for reason, count in reasons)
    say(f"crawl: {result.rows} models, {result.eligible} eligible" + (f"; {left_out}" if left_out else ""))
    return result


@contextmanager
def _outages(catalog: Path) -> Iterator[None]:
    """Tell a hub that stopped to answer from one that never did, whose address may be wrong."""
    try:
        yield
    except InputError as error:
        hub_error = error.__cause__
        if isinstance(hub_error, HubError) and hub_error.transient and _has_answered(catalog):
            raise HubOutage(str(error)) from error
        raise


def _has_answered(catalog: Path) -> bool:
    """True if the crawl under way has kept anything that the hub said."""
    parts = CrawlParts.of(catalog)
    kept = chain(read_lines(parts.listing), read_lines(parts.journal))
    return any("model" in line or "row" in line for line, _ in kept)


def _asks(config: RunConfig) -> bool:
    """True if the config wants any model of the hub or of a manifest."""
    return bool(config.crawl.count or config.crawl.models or config.crawl.manifests)


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
        tasks=options.tasks,
        created_from=options.created_from,
        created_until=options.created_until,
        packagings=options.packagings,
        families=options.families,
        max_per_author=options.max_per_author,
        max_per_base=options.max_per_base,
    )


def named_but_left_out(result: CrawlResult) -> dict[str, str]:
    """Return repo id → reason of the models that the config names and that cannot be sampled."""
    return {repo_id: reason for repo_id, reason, _ in result.named_left_out}


def crawl_alone(config: RunConfig, *, refresh: bool = False, report: bool = False, as_json: bool = False) -> ExitCode:
    """The `crawl` command.

    Raises:
        InputError: as `crawl`; a run works in this folder and its catalog was to be replaced; or there is nothing to
            report on.
    """
    folder = RunFolder.at(config.output)
    if report and not _asks(config) and not folder.catalog.exists():
        raise InputError(f"there is no {folder.catalog.name} in {folder.root}; run `commforge crawl` first")
    with ExitStack() as stack:
        # A run reads its catalog when a stage begins: rows that are added meanwhile disturb nothing and are taken up
        # by the next start. A refreshed catalog is another one, of which the run's status and report would then tell.
        if refresh and folder.dataset.is_dir():
            stack.enter_context(RunLock(folder.dataset))
        result = crawl(config, folder, refresh=refresh)
    left_out = named_but_left_out(result)
    _show(result, report=report, as_json=as_json)
    if left_out:
        say("crawl: named in the config and left out: " + ", ".join(f"{k} ({v})" for k, v in left_out.items()))
        return ExitCode.DONE_WITH_FAILURES
    return ExitCode.DONE


def _show(result: CrawlResult, *, report: bool, as_json: bool) -> None:
    """Print the catalog's path, its report, or what a program wants to know, on standard output."""
    from crawlers.crawl_report import crawl_report
    from pipeline.cli.output import print_json
    from pipeline.crawl_tables import print_crawl_report

    if report:
        told = crawl_report(result.path)
        print_json(told.as_dict()) if as_json else print_crawl_report(told)
    elif as_json:
        plain: dict[str, Any] = vars(result) | {"path": str(result.path)}
        print_json(plain)
    else:
        print(result.path)
