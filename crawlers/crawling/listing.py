"""The hub's models in the order of downloads, spooled to disk: the ranking is frozen before the first model is asked.

The spool makes a crawl resumable in the middle of the listing (each page is followed by the cursor of the next) and
keeps its memory constant.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crawlers.crawling.journal import append_line, read_lines
from crawlers.crawling.spilled import SpilledSet
from crawlers.hub.hub_client import HubClient


@dataclass(frozen=True)
class ListedModel:
    """What the listing says of a model, all that is known of one that has gone since."""

    repo_id: str
    downloads: int | None = None
    likes: int | None = None
    created_at: str | None = None
    pipeline_tag: str | None = None
    tags: tuple[str, ...] = ()

    @property
    def author(self) -> str:
        return self.repo_id.split("/")[0]


def spool_listing(
    client: HubClient,
    spool: Path,
    count: int | None,
    min_downloads: int,
    is_known: Callable[[str], bool],
    progress: Callable[[int], object],
) -> int:
    """Write the first `count` models that are not known yet to `spool`, going on where an earlier call was stopped.

    Returns:
        how many models are in the spool.

    Raises:
        HubError: the hub gives no listing.
    """
    seen = SpilledSet()
    found, cursor, begun, keep = 0, None, False, 0
    page: list[str] = []
    for line, end in read_lines(spool):
        if "model" in line:
            page.append(line["model"]["repo_id"])
            continue
        # Only now: of a page that was cut off before its cursor, nothing counts as seen.
        found += sum(seen.add(repo_id) for repo_id in page)
        begun, cursor, keep, page = True, line["next"], end, []
    if begun and cursor is None:
        return found
    with spool.open("ab") as file:
        file.truncate(keep)  # a page without its cursor is read again as a whole
        if count == 0:
            append_line(file, {"next": None})
            return 0
        for entries, following in client.listing_pages(cursor):
            ended = following is None
            for model in (_listed(entry) for entry in entries):
                if model is None or is_known(model.repo_id):
                    continue
                if (model.downloads or 0) < min_downloads or (count is not None and found >= count):
                    ended = True
                    break
                if not seen.add(model.repo_id):  # it sank to this page while the one before was read
                    continue
                found += 1
                append_line(file, {"model": vars(model)}, flush=False)
            ended = ended or (count is not None and found >= count)
            append_line(file, {"next": None if ended else following})
            progress(found)
            if ended:
                break
    return found


def read_listing(spool: Path) -> Iterator[ListedModel]:
    """Yield the spooled models in order."""
    for line, _ in read_lines(spool):
        if "model" in line:
            yield ListedModel(**line["model"] | {"tags": tuple(line["model"]["tags"])})


def _listed(entry: Any) -> ListedModel | None:
    """Read one entry; None for what is not a model with an owner, which no generator can be named after."""
    repo_id = entry.get("id") if isinstance(entry, dict) else None
    if not isinstance(repo_id, str) or repo_id.count("/") != 1:
        return None
    return ListedModel(
        repo_id=repo_id,
        downloads=entry.get("downloads"),
        likes=entry.get("likes"),
        created_at=entry.get("createdAt"),
        pipeline_tag=entry.get("pipeline_tag"),
        tags=tuple(tag for tag in entry.get("tags") or () if isinstance(tag, str)),
    )
