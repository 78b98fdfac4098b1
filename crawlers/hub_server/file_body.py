"""HEAD and GET of one file: headers as the hub sets them, ranges, pacing, and the told faults of its repo."""

import asyncio
import re
from collections.abc import Sequence
from typing import BinaryIO
from urllib.parse import quote

from aiohttp import web

from crawlers.hub_server.errors import HubError
from crawlers.hub_server.folder import Repo, RepoFile
from crawlers.hub_server.pacing import Link
from crawlers.hub_server.request_log import RequestRecord
from crawlers.hub_server.visitors import Visitors

_PIECE = 1 << 20
_RANGE = re.compile(r"^bytes=(\d*)-(\d*)$")


def asked_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return (start, end), end exclusive, of a ``Range`` header; None for the whole file.

    A header of another unit, with several ranges or malformed is ignored, as RFC 9110 section 14.2 wants.

    Raises:
        HubError: 416, no byte of the range is in the file.
    """
    match = _RANGE.match((header or "").replace(" ", ""))
    if match is None or match.group(0) == "bytes=-":
        return None
    first, last = match.groups()
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    else:
        start, end = max(0, size - int(last)), size
    if start >= size or start >= end:
        raise HubError(416, "Range not satisfiable", **{"Content-Range": f"bytes */{size}"})
    return start, end


def _headers(repo: Repo, file: RepoFile) -> dict[str, str]:
    name = quote(file.path.rpartition("/")[2])
    headers = {
        "X-Repo-Commit": repo.sha,
        "ETag": f'"{file.etag}"',
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"inline; filename*=UTF-8''{name}; filename=\"{name}\";",
        # Whatever a stranger uploaded, no browser shall run it.
        "Content-Type": "application/octet-stream" if file.sha256 else "text/plain; charset=utf-8",
        "X-Content-Type-Options": "nosniff",
    }
    if file.sha256:
        headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
    return headers


async def answer(
    request: web.Request, repo: Repo, file: RepoFile, visitors: Visitors, link: Link | None, record: RequestRecord
) -> web.StreamResponse:
    """Answer a HEAD or GET of ``file``.

    Args:
        link: the server-wide link that bodies pass over, if it is limited; the repo's own is taken from ``visitors``.
    """
    headers = _headers(repo, file)
    if file.etag in re.findall(r'"([^"]*)"', request.headers.get("If-None-Match", "")):
        return web.Response(status=304, headers=headers)
    # If-Range with another version of the file means: then rather the whole file.
    same = request.headers.get("If-Range", headers["ETag"]) == headers["ETag"]
    byte_range = asked_range(request.headers.get("Range") if same else None, file.size)
    start, end = byte_range or (0, file.size)
    response = web.StreamResponse(status=206 if byte_range else 200, headers=headers)
    if byte_range:
        response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
    response.content_length = end - start
    record.status = response.status
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    with await asyncio.to_thread(_open, file) as source:
        await response.prepare(request)
        slow = visitors.board.take("slow", repo.id)
        links = [each for each in (link, visitors.faults(repo).link, slow.link if slow else None) if each is not None]
        await _send(request, response, source, repo, file, start, end, visitors, links, record)
    return response


async def _send(
    request: web.Request,
    response: web.StreamResponse,
    source: BinaryIO,
    repo: Repo,
    file: RepoFile,
    start: int,
    end: int,
    visitors: Visitors,
    links: Sequence[Link],
    record: RequestRecord,
) -> None:
    behaviour = repo.settings.behaviour
    faults = visitors.faults(repo)
    stop = end
    if behaviour.cut_after_bytes is not None and not faults.cut and end - start > behaviour.cut_after_bytes:
        faults.cut = True
        stop = start + behaviour.cut_after_bytes
    if (cut := visitors.board.take("cut", repo.id, end - start)) is not None:
        stop = min(stop, start + cut.fault.after_bytes)
    corrupt = file.path in behaviour.corrupt
    if start < end == file.size and visitors.board.take("corrupt", repo.id) is not None:
        corrupt = True
    largest = min([_PIECE, *(link.piece_bytes for link in links)])
    position = start
    while position < stop:
        # In a thread: a slow disk must not keep other clients' HEADs waiting.
        piece = await asyncio.to_thread(_read, source, position, min(largest, stop - position))
        if not piece:
            break  # The file shrank under us; the connection ends short of the announced length below.
        if corrupt and position + len(piece) == file.size:
            # The last byte: weights still load, and only the checksum tells.
            piece = piece[:-1] + bytes([piece[-1] ^ 0xFF])
        for link in links:
            await link.book(len(piece))
        try:
            await response.write(piece)
        except ConnectionResetError:
            return  # The client has left, as one does at the end of its patience with a slow hub.
        position += len(piece)
        record.sent += len(piece)
    if position < end and request.transport is not None:
        request.transport.close()


def _open(file: RepoFile) -> BinaryIO:
    """Open a file that is still the one that was hashed.

    Raises:
        HubError: 500, it is gone or changed since the folder was opened, so its announced hash would be a lie.
    """
    try:
        stat = file.location.stat()
        if (stat.st_size, stat.st_mtime_ns) == (file.size, file.mtime_ns):
            return file.location.open("rb")
    except OSError as error:
        raise HubError(500, f"The hub cannot read this file: {error.strerror}") from error
    raise HubError(500, "This file changed after the hub was started; restart the hub")


def _read(source: BinaryIO, position: int, size: int) -> bytes:
    source.seek(position)
    return source.read(size)
