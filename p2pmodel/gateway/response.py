"""An answer as a value: status, headers and where its body comes from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

import msgspec

from p2pmodel.delivery.ports import Reader, Span
from p2pmodel.gateway.request import Request

JSON: Final = ("Content-Type", "application/json")
TEXT: Final = ("Content-Type", "text/plain; charset=utf-8")

Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Spans:
    """The body comes from a reader that is ready; `first` is what it gave already (None for an empty body)."""

    first: Span | None
    reader: Reader


Body = bytes | Spans | AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Response:
    """`headers` name the Content-Length of a HEAD or of a body of Spans; that of bytes is added when it is sent."""

    status: int
    headers: Sequence[Header] = ()
    body: Body = b""


@dataclass(frozen=True, slots=True)
class Call:
    """One request under way, as a route's handler gets it."""

    request: Request
    values: dict[str, str]  # the placeholders of the route, decoded
    body: AsyncIterator[bytes] | None = field(repr=False)  # the request's own, None if it has none
    held: AsyncExitStack = field(repr=False)  # contexts that stay open until the answer has been sent


def json_response(value: object, status: int = 200, headers: Sequence[Header] = ()) -> Response:
    return Response(status, (JSON, *headers), msgspec.json.encode(value))


def refusal(status: int, message: str, *headers: Header) -> Response:
    """A plain refusal, before any route is known."""
    return json_response({"error": message}, status, headers)
