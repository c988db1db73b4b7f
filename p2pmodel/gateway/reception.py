"""Where clients come in: so many at a time, and none of them can keep others out by doing nothing."""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog
import trio

from p2pmodel.gateway.statistics import GatewayStatistics

log = structlog.get_logger()

_PAUSE_S: Final = 0.1  # after the system ran out of descriptors or memory; closing clients will free some
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Reception:
    """Room for `clients_max` clients. When it is used up, whoever has been idle for longest makes way."""

    def __init__(self, clients_max: int, statistics: GatewayStatistics) -> None:
        self._room = trio.CapacityLimiter(clients_max)
        self._statistics = statistics
        self._idle: dict[trio.CancelScope, None] = {}
        self._closed = False

    def resize(self, clients_max: int) -> None:
        """Who is too many and idle goes, who is being served may stay until then."""
        self._room.total_tokens = clients_max
        for scope in list(self._idle)[: max(0, -int(self._room.available_tokens))]:
            scope.cancel()

    async def accept(
        self, listener: socket.socket, attend: Callable[[socket.socket], Awaitable[None]], clients: trio.Nursery
    ) -> None:
        """For ever: a task in `clients` for each who comes. `attend` takes the socket over."""
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
                    await self._admit(sock)
                clients.start_soon(self._attend, sock, attend)

    async def _admit(self, sock: socket.socket) -> None:
        if self._room.available_tokens <= 0 and self._idle:
            next(iter(self._idle)).cancel()
        await self._room.acquire_on_behalf_of(sock)

    async def _attend(self, sock: socket.socket, attend: Callable[[socket.socket], Awaitable[None]]) -> None:
        self._statistics.clients += 1
        try:
            with _closed_on_error(sock):
                await attend(sock)
        finally:
            self._statistics.clients -= 1
            self._room.release_on_behalf_of(sock)

    # For connections without a request

    @property
    def closing(self) -> bool:
        """Whether a connection should end instead of waiting for another request."""
        return self._closed or self._room.statistics().tasks_waiting > 0

    def enter(self, scope: trio.CancelScope) -> None:
        self._idle[scope] = None
        if self._closed:
            scope.cancel()

    def leave(self, scope: trio.CancelScope) -> None:
        del self._idle[scope]

    def close(self) -> None:
        """Send the idle ones home."""
        self._closed = True
        for scope in self._idle:
            scope.cancel()


@contextmanager
def _closed_on_error(sock: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise
