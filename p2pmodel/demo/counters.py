"""What the demo hub was asked and what it sent: the numbers that show whether a cluster kept its promises."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Final

from p2pmodel.demo.exchange import Answer, Request, Span

XET_TOKEN: Final = "xet-"  # noqa: S105  # how the tokens of Xet's storage begin
_LOG_REQUESTS_MAX: Final = 10_000  # enough for any test; a hub that runs for days must not grow


@dataclass(frozen=True, slots=True)
class Seen:
    """One request, as a test wants to look at it afterwards. Never holds a token."""

    host: str  # "hub" or "cdn"
    method: str
    target: str
    range: str
    status: int
    had_token: bool
    user_agent: str


@dataclass(slots=True)
class Counters:
    requests: Counter[str] = field(default_factory=Counter)  # "GET resolve"
    statuses: Counter[str] = field(default_factory=Counter)
    file_bytes: int = 0  # HTTP body bytes of files; metadata is not counted
    file_bytes_by_blob: Counter[str] = field(default_factory=Counter)  # by sha256
    file_bytes_by_path: Counter[str] = field(default_factory=Counter)  # "models/org/name/path"
    tokens_by_host: Counter[str] = field(default_factory=Counter)
    auth_leaks: int = 0  # credentials that reached the CDN and are none of its own
    connections: int = 0
    connections_max: int = 0
    broken_connections: int = 0
    faults_played: int = 0
    log: deque[Seen] = field(default_factory=lambda: deque(maxlen=_LOG_REQUESTS_MAX))

    def answered(self, host: str, request: Request, answer: Answer) -> None:
        has_token = "authorization" in request.headers or request.token is not None
        self.requests[f"{request.method} {answer.route}"] += 1
        self.statuses[str(answer.status)] += 1
        self.tokens_by_host[host] += has_token
        self.auth_leaks += has_token and host == "cdn" and not (request.token or "").startswith(XET_TOKEN)
        self.log.append(
            Seen(
                host,
                request.method,
                request.target,
                request.headers.get("range", ""),
                answer.status,
                has_token,
                request.headers.get("user-agent", ""),
            )
        )

    def sent(self, body: Span, count: int) -> None:
        self.file_bytes += count
        self.file_bytes_by_blob[body.content.sha256] += count
        self.file_bytes_by_path[body.label] += count

    def connected(self) -> None:
        self.connections += 1
        self.connections_max = max(self.connections_max, self.connections)

    def disconnected(self) -> None:
        self.connections -= 1

    def as_dict(self) -> dict[str, Any]:
        """A copy of everything but the log, fit for JSON."""
        return {
            "requests": dict(self.requests),
            "requests_total": sum(self.requests.values()),
            "statuses": dict(self.statuses),
            "file_bytes": self.file_bytes,
            "file_bytes_by_blob": dict(self.file_bytes_by_blob),
            "file_bytes_by_path": dict(self.file_bytes_by_path),
            "tokens_by_host": dict(self.tokens_by_host),
            "auth_leaks": self.auth_leaks,
            "connections": self.connections,
            "connections_max": self.connections_max,
            "broken_connections": self.broken_connections,
            "faults_played": self.faults_played,
        }

    def reset(self) -> None:
        """Start at zero; connections that are open stay counted."""
        fresh = Counters(connections=self.connections, connections_max=self.connections)
        for name in self.__slots__:
            setattr(self, name, getattr(fresh, name))
