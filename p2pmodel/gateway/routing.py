"""The route table: which handler answers which method and path, as data.

A template is matched against the raw path, so only a raw slash separates segments; what a placeholder took is decoded
afterwards (`%2F` in a revision is not a slash). The first route that fits answers.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

from p2pmodel.errors import P2pmodelError
from p2pmodel.gateway.request import Request, decode
from p2pmodel.gateway.response import Call, Response

Handler = Callable[[Call], Awaitable[Response]]
Failure = Callable[[P2pmodelError], Response]

READ: Final = frozenset({"GET", "HEAD"})
WRITE: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
ANY: Final = READ | WRITE

#: What a placeholder may take of a raw path.
_PLACEHOLDERS: Final = {
    "kinds": "(?P<kind>models|datasets|spaces|kernels)",
    "prefix": "(?:(?P<kind>datasets|spaces|kernels)/)?",
    "repo": "(?P<repo>[^/]+(?:/[^/]+)?)",  # org/name, or one of the old single names
    "owned": "(?P<repo>[^/]+/[^/]+)",
    "revision": "(?P<revision>refs/(?:pr|convert)/[^/]+|[^/]+)",  # these two also come unquoted (browsers, hf:// paths)
    "path": "(?P<path>.+)",
    "segment": "(?P<segment>[^/]+)",
    "rest": "(?P<rest>.*)",
}


@dataclass(frozen=True, slots=True)
class Route:
    """`name` is what metrics call it. `failure` renders errors for the clients of this dialect."""

    name: str
    methods: frozenset[str]
    pattern: re.Pattern[str]
    handler: Handler
    failure: Failure
    takes_body: bool


def route(
    name: str, methods: Iterable[str], template: str, handler: Handler, failure: Failure, *, takes_body: bool = False
) -> Route:
    """`template` is a regular expression with placeholders in braces."""
    pattern = re.sub(r"\{([a-z]+)\}", lambda found: _PLACEHOLDERS[found[1]], template)
    return Route(name, frozenset(methods), re.compile(pattern), handler, failure, takes_body)


class RouteTable:
    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = tuple(routes)

    def find(self, request: Request) -> tuple[Route, dict[str, str]] | None:
        """The route and its decoded placeholders. Raises BadRequestError."""
        path = request.path
        for candidate in self._routes:
            if request.method in candidate.methods and (match := candidate.pattern.fullmatch(path)):
                return candidate, {name: decode(value) for name, value in match.groupdict().items() if value is not None}
        return None
