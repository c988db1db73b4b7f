"""Faults on demand: which requests go wrong, and how. A fault is a value; several effects may be combined in one."""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from p2pmodel.demo.exchange import Answer, Request, Span, json_answer


@dataclass(frozen=True, slots=True)
class Fault:
    """What to do to the requests that `match`.

    `match` is a regular expression searched in "METHOD target", `host` is "hub", "cdn" or "" for both. The first `skip`
    matching requests pass, the next `times` are hit (None: all from there on). Offsets count body bytes, but `flip_at`
    counts bytes of the file, so that each range which covers it carries the same lie.
    """

    match: str = ""
    host: str = ""
    skip: int = 0
    times: int | None = None

    delay_s: float = 0.0  # before the head
    rate: float | None = None  # bytes/s for this answer
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)  # set on whatever is answered, e.g. Retry-After, RateLimit
    location: str | None = None  # redirects there (302, or `status`)
    etag: str | None = None  # replaces ETag and X-Linked-ETag
    content_range: str | None = None
    ignore_range: bool = False  # 200 and the whole file
    gzip: bool = False
    flip_at: int | None = None  # one byte of the file is wrong
    extra_bytes: int = 0  # a body longer than the file, and a Content-Length to match
    endless: bool = False  # a body without length or end
    truncate_at: int | None = None  # then FIN
    reset_at: int | None = None  # then RST
    stall_at: int | None = None  # then nothing, until the client leaves
    drop: bool = False  # closes without any answer

    @property
    def cut_at(self) -> int | None:
        """After how many body bytes the sending stops."""
        return min((at for at in (self.truncate_at, self.reset_at, self.stall_at) if at is not None), default=None)

    def alter(self, answer: Answer) -> Answer:
        """The answer with this fault's head, and its body if that is replaced as a whole."""
        if self.status is not None or self.location is not None:
            status = self.status or 302
            answer = replace(json_answer(status, {"error": f"fault {status}"}), route=answer.route)
        if self.location is not None:
            answer = answer.altered(Location=self.location)
        if self.etag is not None:
            answer = answer.altered(**{name: f'"{self.etag}"' for name in answer.headers if name in {"ETag", "X-Linked-ETag"}})
        if self.content_range is not None:
            answer = answer.altered(Content_Range=self.content_range)
        if self.gzip:
            body = (
                answer.body.content.read(answer.body.start, answer.body.count) if isinstance(answer.body, Span) else answer.body
            )
            answer = replace(answer, body=gzip.compress(body, mtime=0)).altered(Content_Encoding="gzip")
            answer.headers["Content-Length"] = str(len(answer.body))
        return replace(answer, headers={**answer.headers, **self.headers})


NO_FAULT: Final = Fault()


class Faults:
    """The faults in force, in the order in which they were added; the first that is due takes the request."""

    def __init__(self) -> None:
        self._faults: list[tuple[Fault, re.Pattern[str]]] = []
        self._seen: list[int] = []

    def add(self, fault: Fault) -> None:
        """Raises re.error if `match` is no regular expression."""
        self._faults.append((fault, re.compile(fault.match)))
        self._seen.append(0)

    def add_json(self, value: Any) -> int:  # noqa: ANN401  # JSON
        """Add a fault, or a list of them, given as JSON; returns how many. Raises TypeError or re.error."""
        faults = [Fault(**one) for one in (value if isinstance(value, list) else [value])]
        for fault in faults:
            self.add(fault)
        return len(faults)

    def clear(self) -> None:
        self._faults.clear()
        self._seen.clear()

    def take(self, host: str, request: Request) -> Fault:
        """The fault that this request meets; counts the request for each fault that it matches."""
        line = f"{request.method} {request.target}"
        taken = NO_FAULT
        for index, (fault, pattern) in enumerate(self._faults):
            if fault.host not in {"", host} or not pattern.search(line):
                continue
            self._seen[index] += 1
            nth = self._seen[index] - fault.skip
            if taken is NO_FAULT and nth >= 1 and (fault.times is None or nth <= fault.times):
                taken = fault
        return taken
