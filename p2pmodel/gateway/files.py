"""Answers with a file's bytes: the same for both dialects, up to a few headers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import quote

from p2pmodel.content import FileEntry, Snapshot
from p2pmodel.delivery.ports import Delivery
from p2pmodel.gateway import ranges
from p2pmodel.gateway.request import Request
from p2pmodel.gateway.response import Call, Header, Response, Spans

SOURCE: Final = "X-P2pmodel-Source"


async def file_response(
    delivery: Delivery, call: Call, snapshot: Snapshot, entry: FileEntry, etag: str, also: Sequence[Header] = ()
) -> Response:
    """200, 206, 304 or 416 for a GET or HEAD of a file. A HEAD needs none of its bytes. `also`: the dialect's own headers."""
    request = call.request
    about = [*_describe(snapshot, entry, etag), *also]
    lies = (SOURCE, delivery.whereabouts(entry))
    if _matches(request.header("if-none-match"), etag):
        return Response(304, [*about, lies])
    if request.method == "HEAD":
        return Response(200, [*about, ("Content-Length", str(entry.size)), lies])
    try:
        asked = ranges.choose(_range_header(request, etag), entry.size)
    except ranges.UnsatisfiableError:
        return Response(416, [*about, ("Content-Range", f"bytes */{entry.size}"), lies])
    about.append(("Content-Length", str(asked.length)))
    if asked.partial:
        about.append(("Content-Range", asked.content_range))
    reader = await call.held.enter_async_context(delivery.read(snapshot, entry, asked.start, asked.stop, request.access))
    await reader.ready()
    first = await reader.next_span()  # before the head, so that a failure is still a proper error
    about.append((SOURCE, reader.sources))
    return Response(206 if asked.partial else 200, about, Spans(first, reader))


def from_the_hub(passed: Response) -> Response:
    """The hub's own answer about a file that only it can give: no hash of it is known."""
    return replace(passed, headers=[*passed.headers, (SOURCE, "upstream")])


def _describe(snapshot: Snapshot, entry: FileEntry, etag: str) -> list[Header]:
    name = quote(entry.path.rpartition("/")[2], safe="")
    return [
        ("X-Repo-Commit", snapshot.commit),
        ("ETag", f'"{etag}"'),
        ("X-Linked-ETag", f'"{etag}"'),
        ("X-Linked-Size", str(entry.size)),
        ("Accept-Ranges", "bytes"),
        ("Content-Type", "application/octet-stream"),
        ("Content-Disposition", f"attachment; filename*=UTF-8''{name}"),
    ]


def _matches(header: str | None, etag: str) -> bool:
    """If-None-Match (RFC 9110 §13.1.2): any of a list, compared weakly."""
    return header is not None and (header.strip() == "*" or etag in _tags(header))


def _tags(header: str) -> Sequence[str]:
    return [tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")]


def _range_header(request: Request, etag: str) -> str | None:
    """The Range header, unless If-Range names other content than this (dates never match: we have none to compare)."""
    condition = request.header("if-range")
    return request.header("range") if condition is None or condition.strip() == f'"{etag}"' else None
