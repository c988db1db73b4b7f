"""The gateway itself: listens, admits clients up to a bound, shuts down without cutting anybody off."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import structlog
import trio

from p2pmodel.delivery.ports import Delivery, Upstreams
from p2pmodel.gateway.connection import ClientConnection, Desk
from p2pmodel.gateway.gate import Gate, hosts_of
from p2pmodel.gateway.listening import check_loopback
from p2pmodel.gateway.request import Request
from p2pmodel.gateway.routes_admin import AdminRoutes, Page
from p2pmodel.gateway.routes_huggingface import HuggingFaceRoutes
from p2pmodel.gateway.routes_modelscope import ModelScopeRoutes
from p2pmodel.gateway.routing import Route, RouteTable
from p2pmodel.gateway.statistics import GatewayStatistics
from p2pmodel.gateway.stream import ClientStream
from p2pmodel.gateway.vigil import Vigil
from p2pmodel.limits import CLIENTS_MAX, SENDERS_MAX

log = structlog.get_logger()

_PAUSE_S: Final = 0.1  # after the system ran out of descriptors or memory; closing clients will free some
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Gateway:
    """`serve` runs until `drain` was called and the last client has its answer; cancelling it ends at once.

    `ready` says why this node is not ready (None when it is), `report` has the pages of /-/api by name, `token` is asked of
    every client where it is set.
    """

    def __init__(
        self,
        delivery: Delivery,
        upstreams: Upstreams,
        *,
        ready: Callable[[], str | None],
        render_metrics: Callable[[], bytes],
        report: Mapping[str, Page],
        allowed_hosts: Collection[str] = (),
        token: str | None = None,
        clients_max: int = CLIENTS_MAX,
    ) -> None:
        self.statistics = GatewayStatistics()
        self._routes = _Routes(
            AdminRoutes(delivery, ready=ready, render_metrics=render_metrics, report=report),
            HuggingFaceRoutes(delivery, upstreams),
            ModelScopeRoutes(delivery, upstreams),
        )
        self._allowed_hosts = allowed_hosts
        self._token = token
        self._vigil = Vigil(self.statistics)
        self._lobby = _Lobby(clients_max)
        self._senders = trio.CapacityLimiter(SENDERS_MAX)
        self._accepting = trio.CancelScope()

    async def serve(
        self, listeners: Sequence[socket.socket], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve clients of these listening sockets, which become ours. Raises ConfigError if one of them is open to other
        machines and there is no token."""
        if self._token is None:
            check_loopback(listeners)
        hosts = frozenset[str]().union(*(hosts_of(listener.getsockname()[1], self._allowed_hosts) for listener in listeners))
        desk = Desk(Gate(hosts, self._token), self._routes, self._vigil, self._lobby, self.statistics)
        async with trio.open_nursery() as house:
            house.start_soon(self._vigil.run)
            async with trio.open_nursery() as clients:
                try:
                    with self._accepting:
                        async with trio.open_nursery() as doors:
                            for listener in listeners:
                                doors.start_soon(self._accept, listener, desk, clients)
                            task_status.started()
                finally:
                    for listener in listeners:
                        listener.close()
            house.cancel_scope.cancel()

    def drain(self) -> None:
        """Take no more clients, let those that wait for an answer have it, send the others home."""
        self._accepting.cancel()
        self._lobby.close()

    async def _accept(self, listener: socket.socket, desk: Desk, clients: trio.Nursery) -> None:
        listener.setblocking(False)
        while True:
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                await trio.lowlevel.wait_readable(listener)
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    log.warning("gateway.exhausted", reason=error.strerror)
                    await trio.sleep(_PAUSE_S)
            else:
                with _closed_on_error(sock):
                    await self._lobby.admit()
                clients.start_soon(self._attend, sock, desk)

    async def _attend(self, sock: socket.socket, desk: Desk) -> None:
        self.statistics.clients += 1
        try:
            with _closed_on_error(sock):
                stream = ClientStream(sock, self._senders)
            await ClientConnection(stream, desk).run()
        finally:
            self.statistics.clients -= 1
            self._lobby.dismiss()


class _Lobby:
    """Room for so many clients. When it is used up, whoever has been idle for longest makes way."""

    def __init__(self, clients_max: int) -> None:
        self._room = trio.Semaphore(clients_max)
        self._idle: dict[trio.CancelScope, None] = {}
        self._closed = False

    @property
    def closing(self) -> bool:
        return self._closed or self._room.statistics().tasks_waiting > 0

    async def admit(self) -> None:
        if not self._room.value and self._idle:
            next(iter(self._idle)).cancel()
        await self._room.acquire()

    def dismiss(self) -> None:
        self._room.release()

    def enter(self, scope: trio.CancelScope) -> None:
        self._idle[scope] = None

    def leave(self, scope: trio.CancelScope) -> None:
        del self._idle[scope]

    def close(self) -> None:
        self._closed = True
        for scope in self._idle:
            scope.cancel()


class _Routes:
    """Three tables, told apart by path, or by the client's name where two hubs share a path (/datasets/…/resolve/…)."""

    def __init__(self, admin: AdminRoutes, huggingface: HuggingFaceRoutes, modelscope: ModelScopeRoutes) -> None:
        self._admin = RouteTable(admin.table())
        self._huggingface = RouteTable(huggingface.table())
        self._modelscope = RouteTable(modelscope.table())

    def find(self, request: Request) -> tuple[Route, dict[str, str]] | None:
        return self._table(request).find(request)

    def _table(self, request: Request) -> RouteTable:
        path = request.path
        if path.startswith("/-") or path in {"/healthz", "/readyz", "/metrics"}:
            return self._admin
        if path.startswith(("/api/v1/", "/openapi/v1/", "/models/")):
            return self._modelscope
        if (request.header("user-agent") or "").lower().startswith("modelscope"):
            return self._modelscope
        return self._huggingface


@contextmanager
def _closed_on_error(sock: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise
