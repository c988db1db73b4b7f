"""What the owner may ask at the admin door, as a table: each verb is a POST, its arguments are the query; what is only told,
private repos included, is a GET as at the gateway.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict
from functools import partial
from pathlib import Path

from p2pmodel.admin.live_limits import LiveLimits
from p2pmodel.content import Hub, Repo, RepoKind
from p2pmodel.delivery.adopting import Adopting, AdoptStep
from p2pmodel.delivery.upkeep import Upkeep, VerifyStep
from p2pmodel.errors import ConfigError
from p2pmodel.gateway.failures import plain_failure
from p2pmodel.gateway.request import BadRequestError, Request
from p2pmodel.gateway.response import Call, Response, json_response
from p2pmodel.gateway.routes_admin import LINES_TYPE, Lines, Page, report_route
from p2pmodel.gateway.routing import Handler, Route, route
from p2pmodel.settings import duration
from p2pmodel.store.caches import find_caches, one_repo


class Verbs:
    """`forgive` lifts the ban of the node that it is given; `report` are the pages that are the owner's to read."""

    def __init__(
        self,
        *,
        limits: LiveLimits,
        adopting: Adopting,
        upkeep: Upkeep,
        forgive: Callable[[str], Sequence[str]],
        report: Mapping[str, Page],
    ) -> None:
        self._limits = limits
        self._lift_ban = forgive
        self._adopting = adopting
        self._upkeep = upkeep
        self._report = report

    def table(self) -> tuple[Route, ...]:
        verbs: dict[str, Handler] = {
            "limits": self._change_limits,
            "adopt": self._adopt,
            "pin": self._pin,
            "unpin": self._unpin,
            "remove": self._remove,
            "collect": self._collect,
            "verify": self._verify,
            "forgive": self._forgive,
        }
        return (
            *(route(name, {"POST"}, f"/{name}", verb, plain_failure) for name, verb in verbs.items()),
            report_route(self._report),
        )

    async def _change_limits(self, call: Call) -> Response:
        self._limits.change({key: values[-1] for key, values in call.request.query.items()})
        return json_response({"limits": self._limits.tell()})

    async def _adopt(self, call: Call) -> Response:
        """A cache, or a folder that is a repo at a revision. Goes on when the owner hangs up."""
        folder, revision = _folder(call.request), call.request.asked("revision")
        if not call.request.asked("repo"):
            return await _streamed(call, self._adopting.adopt(str(folder), partial(find_caches, folder)))
        repo = _repo(call.request)
        what = f"{folder} ({repo} at {revision})"
        lasts_s = _seconds(call.request.asked("lasts"))
        return await _streamed(call, self._adopting.adopt(what, partial(one_repo, folder, repo, revision), lasts_s=lasts_s))

    async def _pin(self, call: Call) -> Response:
        return json_response({"pinned": [await self._upkeep.pin(_repo(call.request), call.request.asked("revision"))]})

    async def _unpin(self, call: Call) -> Response:
        unpinned = await self._upkeep.unpin(_repo(call.request), call.request.asked("revision"))
        return json_response({"unpinned": list(unpinned)})

    async def _remove(self, call: Call) -> Response:
        return json_response(asdict(await self._upkeep.remove(_repo(call.request), call.request.asked("revision"))))

    async def _collect(self, call: Call) -> Response:
        return json_response(asdict(await self._upkeep.collect(dry_run=call.request.asked("dry_run") == "1")))

    async def _forgive(self, call: Call) -> Response:
        return json_response({"forgiven": list(self._lift_ban(call.request.asked("node")))})

    async def _verify(self, call: Call) -> Response:
        """Stops when the owner hangs up."""
        request = call.request
        repo = _repo(request) if request.asked("repo") else None
        return await _streamed(call, self._upkeep.verify(repo, request.asked("revision")))


async def _streamed(call: Call, steps: AsyncGenerator[AdoptStep | VerifyStep, None]) -> Response:
    await call.held.enter_async_context(aclosing(steps))
    lines: Lines[AdoptStep | VerifyStep] = Lines(steps, done=lambda step: step.over)
    return Response(200, (LINES_TYPE,), lines)


def _folder(request: Request) -> Path:
    folder = Path(request.asked("dir"))
    if not folder.is_absolute() or "\0" in str(folder):
        raise BadRequestError("dir must be an absolute path.")
    return folder


def _seconds(text: str) -> float:
    try:
        return duration(text) if text else 0.0
    except ValueError as error:
        raise ConfigError(f"lasts must be {error}.") from None


def _repo(request: Request) -> Repo:
    try:
        hub = Hub(request.asked("hub", Hub.HUGGINGFACE))
        return Repo(hub, RepoKind(request.asked("type", RepoKind.MODEL)), request.asked("repo"))
    except ValueError as error:
        raise ConfigError(f"{error}.") from None
