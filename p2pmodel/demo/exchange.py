"""One request and one answer, as values; ranges; and the table that leads from one to the other."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qs

from p2pmodel.demo.repos import Content

_NUMBER: Final = re.compile("[0-9]{1,18}")
_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    target: str  # raw, as it came: %2F in a revision is not a slash
    headers: Mapping[str, str]  # names in lower case
    body: bytes = b""

    @property
    def path(self) -> str:
        path = self.target.partition("?")[0]
        if path.startswith("http://"):  # as sent to a proxy
            return "/" + path.removeprefix("http://").partition("/")[2]
        return path

    @property
    def steers(self) -> bool:
        """Whether it is for the hub's operator: never counted, never broken."""
        return self.path.startswith("/__")

    @property
    def raw_query(self) -> str:
        return self.target.partition("?")[2]

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.raw_query, keep_blank_values=True)

    def asked(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[0]

    def flag(self, name: str) -> bool:
        return self.asked(name).lower() in {"true", "1"}

    def number(self, name: str, default: int) -> int:
        text = self.asked(name)
        return int(text) if _NUMBER.fullmatch(text) else default

    @property
    def base_url(self) -> str:
        """Where the client thinks that we are, for absolute links."""
        return f"http://{self.headers.get('host', 'localhost')}"

    @property
    def token(self) -> str | None:
        """The caller's credential: a bearer token, git's password, or ModelScope's session cookie."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token:
            return token.strip()
        if scheme.lower() == "basic":  # git
            with suppress(ValueError):
                return base64.b64decode(token).decode().partition(":")[2] or None
        try:
            cookies = SimpleCookie(self.headers.get("cookie", ""))
        except CookieError:
            return None
        return cookies["m_session_id"].value if "m_session_id" in cookies else None

    def without(self, header: str) -> Request:
        return replace(self, headers={name: value for name, value in self.headers.items() if name != header})


@dataclass(frozen=True, slots=True)
class Span:
    """A run of a file's bytes as a body; `label` (models/org/name/path) is what it is counted under."""

    content: Content
    label: str
    start: int
    count: int

    def __len__(self) -> int:
        return self.count


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Span = b""
    route: str = "unknown"

    def altered(self, **headers: str) -> Answer:
        """With these headers set; underscores stand for hyphens."""
        return replace(self, headers=self.headers | {name.replace("_", "-"): value for name, value in headers.items()})


class RefusedError(Exception):
    """A request that ends early, with the answer to give."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Route:
    name: str
    methods: frozenset[str]
    pattern: re.Pattern[str]
    handle: Callable[[Request, dict[str, str]], Answer]

    @classmethod
    def of(cls, name: str, methods: str, pattern: str, handle: Callable[[Request, dict[str, str]], Answer]) -> Route:
        return cls(name, frozenset(methods.split()), re.compile(pattern), handle)


def route(routes: Iterable[Route], request: Request) -> Answer:
    """The answer of the first route that fits, marked with its name; 404 or 405 if none does."""
    other_method = False
    for candidate in routes:
        match = candidate.pattern.fullmatch(request.path)
        if match is None:
            continue
        if request.method not in candidate.methods:
            other_method = True
            continue
        parts = {name: text or "" for name, text in match.groupdict().items()}
        try:
            answer = candidate.handle(request, parts)
        except RefusedError as refused:
            answer = refused.answer
        return replace(answer, route=candidate.name)
    return json_answer(405 if other_method else 404, {"error": "Method Not Allowed" if other_method else "Not Found"})


def json_answer(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Answer:  # noqa: ANN401  # JSON
    return Answer(status, {"Content-Type": "application/json; charset=utf-8", **(headers or {})}, json.dumps(value).encode())


def file_answer(request: Request, content: Content, label: str, headers: Mapping[str, str], *, ranges: bool = True) -> Answer:
    """A file, or the part of it that is asked for. Several ranges, and senseless ones, are ignored (RFC 9110 §14.2)."""
    headers = {"Content-Type": "application/octet-stream", **headers}
    etag = headers.get("ETag", "")
    if etag and request.headers.get("if-none-match") == etag:
        return Answer(304, {**headers, "Content-Length": str(content.size)})
    whole = partial(Answer, 200, body=Span(content, label, 0, content.size))
    if not ranges:
        return whole({"Content-Length": str(content.size), **headers})
    headers["Accept-Ranges"] = "bytes"
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    if match is None or not any(match.groups()) or request.headers.get("if-range", etag) != etag:
        return whole({"Content-Length": str(content.size), **headers})
    first, last = match.groups()
    start = int(first) if first else max(0, content.size - int(last))
    end = min(int(last) if first and last else content.size, content.size - 1)
    if first and last and int(last) < start:
        return whole({"Content-Length": str(content.size), **headers})
    if start >= content.size or (not first and int(last) == 0):
        return Answer(416, {**headers, "Content-Range": f"bytes */{content.size}", "Content-Length": "0"})
    part = Span(content, label, start, end - start + 1)
    return Answer(
        206, {**headers, "Content-Range": f"bytes {start}-{end}/{content.size}", "Content-Length": str(part.count)}, part
    )
