"""What people and monitors ask of the daemon itself: health, metrics, the status page and the JSON behind it. Read-only."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import asdict
from importlib import resources
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

import msgspec

from p2pmodel.content import Hub, Repo, RepoKind
from p2pmodel.delivery.ports import Delivery, Selection
from p2pmodel.errors import P2pmodelError
from p2pmodel.gateway.failures import plain_failure
from p2pmodel.gateway.request import BadRequestError, Request
from p2pmodel.gateway.response import TEXT, Call, Response, json_response, refusal
from p2pmodel.gateway.routing import ANY, READ, Route, route


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


Step = TypeVar("Step", bound=_Dataclass)
Page = Callable[[Mapping[str, str]], Awaitable[object]]  # gets the query; what it raises is told as everywhere

#: What clients of a hub mean when they name no revision.
DEFAULT_REVISIONS: Final = {Hub.HUGGINGFACE: "main", Hub.MODELSCOPE: "master"}

#: Besides the report's pages, what only tells.
SHOWN_PATHS: Final = frozenset({"/-", "/-/", "/healthz", "/readyz", "/metrics"})

_METRICS_TYPE: Final = ("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
LINES_TYPE: Final = ("Content-Type", "application/x-ndjson")


class AdminRoutes:
    def __init__(
        self,
        delivery: Delivery,
        *,
        ready: Callable[[], Awaitable[str | None]],
        render_metrics: Callable[[], bytes],
        report: Mapping[str, Page],
    ) -> None:
        self._delivery = delivery
        self._ready = ready
        self._render_metrics = render_metrics
        self._report = report
        self._page = _status_page()

    def table(self) -> tuple[Route, ...]:
        return (
            route("healthz", READ, "/healthz", self._healthz, plain_failure),
            route("readyz", READ, "/readyz", self._readyz, plain_failure),
            route("metrics", READ, "/metrics", self._metrics, plain_failure),
            route("page", READ, "/-/?", self._show_page, plain_failure),
            route("fetch", {"GET"}, "/-/api/fetch", self._fetch, plain_failure),
            route("warm", {"GET"}, "/-/api/warm", self._warm, plain_failure),
            report_route(self._report),
            route("unknown", ANY, "{path}", _not_here, plain_failure),
        )

    async def _healthz(self, _call: Call) -> Response:
        return Response(200, (TEXT,), b"alive\n")

    async def _readyz(self, _call: Call) -> Response:
        reason = await self._ready()
        if reason is None:
            return json_response({"ready": True})
        return json_response({"ready": False, "reason": reason}, 503)

    async def _metrics(self, _call: Call) -> Response:
        return Response(200, (_METRICS_TYPE,), self._render_metrics())

    async def _show_page(self, _call: Call) -> Response:
        return self._page

    async def _fetch(self, call: Call) -> Response:
        """Bring a snapshot here: a line of JSON per step, and the last one says how it ended."""
        repo, revision, selection = _read_fetch(call.request)
        offline = call.request.asked("offline") == "1"
        fetch = self._delivery.fetch(repo, revision, selection, call.request.access, offline=offline)
        try:
            steps = await call.held.enter_async_context(fetch)
        except P2pmodelError as error:
            return Response(200, (LINES_TYPE,), _failed(error))
        return Response(200, (LINES_TYPE,), Lines(steps, done=lambda progress: progress.path is not None))

    async def _warm(self, call: Call) -> Response:
        """Have nodes of the cluster bring a public snapshot in; told as a fetch is. Whoever hangs up stops nobody."""
        repo, revision, selection = _read_fetch(call.request)
        warm = self._delivery.warm(repo, revision, selection, call.request.asked("nodes", "all"))
        steps = await call.held.enter_async_context(warm)
        return Response(200, (LINES_TYPE,), Lines(steps, done=lambda step: step.over))


def report_route(report: Mapping[str, Page]) -> Route:
    """Where its pages are."""

    async def show(call: Call) -> Response:
        page = report.get(call.values["segment"])
        if page is None:
            return await _not_here(call)
        return json_response(await page({name: values[0] for name, values in call.request.query.items()}))

    return route("report", READ, "/-/api/{segment}", show, plain_failure)


class Lines(Generic[Step]):
    """The steps of a job as lines of JSON, ended by one that says "done" or "error"."""

    def __init__(self, steps: AsyncIterator[Step], *, done: Callable[[Step], bool]) -> None:
        self._steps: AsyncIterator[Step] = steps
        self._done: Callable[[Step], bool] = done
        self._failed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._failed:
            raise StopAsyncIteration
        try:
            step = await anext(self._steps)
        except P2pmodelError as error:
            self._failed = True
            return _failed(error)
        return _line({"event": "done" if self._done(step) else "progress", **asdict(step)})


def _failed(error: P2pmodelError) -> bytes:
    """`kind` is the error's name in p2pmodel.errors."""
    return _line({"event": "error", "kind": type(error).__name__, "message": str(error), "next_step": error.next_step})


def _line(event: object) -> bytes:
    return msgspec.json.encode(event) + b"\n"


def _read_fetch(request: Request) -> tuple[Repo, str, Selection]:
    try:
        hub = Hub(request.asked("hub", Hub.HUGGINGFACE))
        repo = Repo(hub, RepoKind(request.asked("type", RepoKind.MODEL)), request.asked("repo"))
    except ValueError as error:
        raise BadRequestError(str(error)) from None
    revision = request.asked("revision") or DEFAULT_REVISIONS[hub]
    selection = Selection(*(tuple(request.query.get(name, ())) for name in ("file", "include", "exclude")))
    return repo, revision, selection


async def _not_here(_call: Call) -> Response:
    return refusal(404, "There is nothing here by this name.")


def _status_page() -> Response:
    """One self-contained page. Its policy lets exactly its own script run, and that script ask only us."""
    page = resources.files(__package__).joinpath("status.html").read_bytes()
    script = page.partition(b"<script>")[2].partition(b"</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; script-src 'sha256-{digest}'"
    headers = (
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Disposition", "inline"),
        ("Content-Security-Policy", f"{policy}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
        ("Cache-Control", "no-store"),
    )
    return Response(200, headers, page)
