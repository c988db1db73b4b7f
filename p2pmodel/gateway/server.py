"""The gateway itself: listens, admits clients up to a bound, shuts down without cutting anybody off."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import trio

from p2pmodel.delivery.ports import Delivery, Upstreams
from p2pmodel.gateway.connection import ClientConnection, Desk
from p2pmodel.gateway.gate import Gate, hosts_of, names_of
from p2pmodel.gateway.listening import check_loopback
from p2pmodel.gateway.reception import Reception
from p2pmodel.gateway.request import Request
from p2pmodel.gateway.routes_admin import SHOWN_PATHS, AdminRoutes, Page
from p2pmodel.gateway.routes_huggingface import HuggingFaceRoutes
from p2pmodel.gateway.routes_modelscope import ModelScopeRoutes
from p2pmodel.gateway.routes_xet import STORAGE_PATH, XetOffer, XetRoutes
from p2pmodel.gateway.routing import Route, RouteTable
from p2pmodel.gateway.statistics import GatewayStatistics
from p2pmodel.gateway.stream import ClientStream
from p2pmodel.gateway.tls import TlsStream
from p2pmodel.gateway.uploading import PARTS_PATH, PartLinks, PartRoutes, Seals
from p2pmodel.gateway.vigil import Vigil
from p2pmodel.limits import CLIENTS_MAX, HUB_PLAIN_BYTES_MAX, SENDERS_MAX


@dataclass(frozen=True, slots=True)
class TlsDoor:
    """Where clients come in over TLS."""

    listeners: Sequence[socket.socket]
    context: ssl.SSLContext


class Gateway:
    """`serve` runs until `drain` was called and the last client has its answer; cancelling it ends at once.

    `ready` says why this node is not ready (None when it is), `report` has the pages of /-/api by name, `token` is asked of
    every client where it is set; without one other machines are served only where `serve_anyone` names that risk. Files of
    more than `xet_above` bytes are offered by Xet as well; None offers none.
    `seal_key` is this node's own, the same after every start: clients come back to links that they were given, and hf_xet
    remembers by the storage's address which bytes the hub has.
    """

    def __init__(
        self,
        delivery: Delivery,
        upstreams: Upstreams,
        *,
        ready: Callable[[], Awaitable[str | None]],
        render_metrics: Callable[[], bytes],
        report: Mapping[str, Page],
        allowed_hosts: Collection[str] = (),
        token: str | None = None,
        serve_anyone: bool = False,
        clients_max: int = CLIENTS_MAX,
        xet_above: int | None = HUB_PLAIN_BYTES_MAX,
        seal_key: bytes | None = None,
    ) -> None:
        self.statistics = GatewayStatistics()
        seals = Seals(seal_key or os.urandom(32))
        links = PartLinks(seals)
        self._routes = _Routes(
            AdminRoutes(delivery, ready=ready, render_metrics=render_metrics, report=report),
            HuggingFaceRoutes(delivery, upstreams, links, XetRoutes(delivery, upstreams, XetOffer(xet_above), seals)),
            ModelScopeRoutes(delivery, upstreams, links),
            PartRoutes(delivery, upstreams, links),
        )
        self._harmless = SHOWN_PATHS | {f"/-/api/{name}" for name in report}
        self._allowed_hosts = allowed_hosts
        self._token = token
        self._serve_anyone = serve_anyone
        self._vigil = Vigil(self.statistics)
        self._reception = Reception(clients_max, self.statistics)
        self._senders = trio.CapacityLimiter(SENDERS_MAX)
        self._accepting = trio.CancelScope()

    async def serve(
        self,
        listeners: Sequence[socket.socket],
        *,
        tls: TlsDoor | None = None,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve clients of these listening sockets, and of those over TLS, which become ours. Raises ConfigError if one of
        them is open to other machines, there is no token, and nobody has named that risk."""
        sockets = [*listeners, *(tls.listeners if tls else ())]
        if self._token is None and not self._serve_anyone:
            check_loopback(sockets)
        async with trio.open_nursery() as house:
            house.start_soon(self._vigil.run)
            async with trio.open_nursery() as clients:
                try:
                    with self._accepting:
                        async with trio.open_nursery() as doors:
                            attend = partial(self._attend, desk=self._desk(listeners, "http"))
                            for listener in listeners:
                                doors.start_soon(self._reception.accept, listener, attend, clients)
                            if tls is not None:
                                desk = self._desk(tls.listeners, "https")
                                secured = partial(self._attend_over_tls, desk=desk, context=tls.context)
                                for listener in tls.listeners:
                                    doors.start_soon(self._reception.accept, listener, secured, clients)
                            task_status.started()
                finally:
                    for listener in sockets:
                        listener.close()
            house.cancel_scope.cancel()

    def drain(self) -> None:
        """Take no more clients, let those that wait for an answer have it, send the others home."""
        self._accepting.cancel()
        self._reception.close()

    def resize(self, clients_max: int) -> None:
        """So many clients at once from now on."""
        self._reception.resize(clients_max)

    def _desk(self, listeners: Sequence[socket.socket], scheme: str) -> Desk:
        ports = [listener.getsockname()[1] for listener in listeners]
        hosts = frozenset[str]().union(*(hosts_of(port, self._allowed_hosts, scheme=scheme) for port in ports))
        return Desk(
            Gate(hosts, self._token, (PARTS_PATH, f"{STORAGE_PATH}/"), self._harmless),
            self._routes,
            self._vigil,
            self._reception,
            self.statistics,
            scheme,
        )

    async def _attend(self, sock: socket.socket, desk: Desk) -> None:
        await ClientConnection(ClientStream(sock, self._senders), desk, names_of(sock, desk.scheme)).run()

    async def _attend_over_tls(self, sock: socket.socket, desk: Desk, context: ssl.SSLContext) -> None:
        reached = names_of(sock, desk.scheme)
        stream = TlsStream(ClientStream(sock, self._senders), context, self._senders)
        if await self._shaken_hands(stream):
            await ClientConnection(stream, desk, reached).run()
        else:
            self.statistics.broken += 1
            stream.close()

    async def _shaken_hands(self, stream: TlsStream) -> bool:
        """Whether a client's handshake came to its end, before somebody else needed the place."""
        with trio.CancelScope() as scope:
            self._reception.enter(scope)
            try:
                await stream.handshake()
            except trio.BrokenResourceError:
                return False
            finally:
                self._reception.leave(scope)
        return not scope.cancelled_caught


class _Routes:
    """Four tables, told apart by path, or by the client's name where two hubs share a path (/datasets/…/resolve/…)."""

    def __init__(
        self, admin: AdminRoutes, huggingface: HuggingFaceRoutes, modelscope: ModelScopeRoutes, parts: PartRoutes
    ) -> None:
        self._admin = RouteTable(admin.table())
        self._huggingface = RouteTable(huggingface.table())
        self._modelscope = RouteTable(modelscope.table())
        self._parts = RouteTable(parts.table())

    def find(self, request: Request) -> tuple[Route, dict[str, str]] | None:
        return self._table(request).find(request)

    def _table(self, request: Request) -> RouteTable:
        path = request.path
        if path.startswith(PARTS_PATH):
            return self._parts
        if path.startswith("/-") or path in {"/healthz", "/readyz", "/metrics"}:
            return self._admin
        if path.startswith(("/api/v1/", "/openapi/v1/", "/models/")):
            return self._modelscope
        if (request.header("user-agent") or "").lower().startswith("modelscope"):
            return self._modelscope
        return self._huggingface
