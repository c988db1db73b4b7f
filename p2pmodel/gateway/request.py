"""A client's request as a value. The path stays as it came: it is split on raw slashes before anything is decoded."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, unquote

from p2pmodel.content import Access


class BadRequestError(ValueError):
    """What came is no request that we read; the sentence goes into a 400."""


@dataclass(frozen=True)
class Request:
    """`target` is the raw path and query, `headers` have lower-case names. `reached` are the values of Host that name the very
    address at which this client reached us."""

    method: str
    target: str
    headers: Sequence[tuple[str, str]] = field(repr=False)  # credentials are among them
    http_version: str = "1.1"
    scheme: str = "http"
    reached: frozenset[str] = frozenset()

    @cached_property
    def _first(self) -> Mapping[str, str]:
        return dict(reversed(self.headers))

    def header(self, name: str) -> str | None:
        """The first value of a header; `name` in lower case."""
        return self._first.get(name)

    @property
    def path(self) -> str:
        """The raw path."""
        return self.target.partition("?")[0]

    @property
    def raw_query(self) -> str:
        return self.target.partition("?")[2]

    @cached_property
    def query(self) -> Mapping[str, list[str]]:
        try:
            pairs = parse_qsl(self.raw_query, keep_blank_values=True, errors="strict", max_num_fields=1000)
        except ValueError:
            raise BadRequestError("the query is not UTF-8 in percent-encoding") from None
        values: dict[str, list[str]] = {}
        for name, value in pairs:
            values.setdefault(name, []).append(value)
        return values

    def asked(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        return self.query.get(name, [default])[0]

    def flag(self, name: str) -> bool:
        """Whether a query parameter says yes: clients write True, true and 1."""
        return self.asked(name).lower() in {"true", "1"}

    @property
    def endpoint(self) -> str:
        """Our own URL as this client names it. The gate has checked the Host."""
        return f"{self.scheme}://{self.header('host')}"

    @cached_property
    def access(self) -> Access:
        """The credential for the hub: a Bearer token, git's password, or the session cookie of ModelScope's clients."""
        scheme, _, token = (self.header("authorization") or "").partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            return Access(token.strip())
        if scheme.lower() == "basic" and (password := _password(token)):
            return Access(password)
        return Access(self._cookie("m_session_id"))

    def _cookie(self, name: str) -> str | None:
        try:
            found = SimpleCookie(self.header("cookie")).get(name)
        except CookieError:
            return None
        return found.value or None if found else None


def _password(pair: str) -> str:
    try:
        return base64.b64decode(pair, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def decode(raw: str) -> str:
    """Decode the percent-encoding of a raw path's part, segment by segment. Raises BadRequestError unless it is UTF-8."""
    if "%" not in raw:
        return raw
    try:
        return "/".join(unquote(segment, errors="strict") for segment in raw.split("/"))
    except UnicodeDecodeError:
        raise BadRequestError("the path is not UTF-8 in percent-encoding") from None
