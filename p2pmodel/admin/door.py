"""The admin socket: where it lies, who may come in, and a connection of the gateway's kind for each."""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from p2pmodel.errors import ConfigError
from p2pmodel.gateway.connection import ClientConnection, Desk
from p2pmodel.gateway.reception import Reception
from p2pmodel.gateway.request import Request
from p2pmodel.gateway.response import Response, refusal
from p2pmodel.gateway.routing import Route, RouteTable
from p2pmodel.gateway.statistics import GatewayStatistics
from p2pmodel.gateway.stream import ClientStream
from p2pmodel.gateway.vigil import Vigil
from p2pmodel.limits import ADMIN_CLIENTS_MAX

SOCKET_NAME: Final = "admin.sock"
_CREDENTIALS: Final = struct.Struct("3i")  # unix(7), SO_PEERCRED: pid, uid, gid


def bind(folder: Path) -> socket.socket:
    """A socket that listens at `folder`/admin.sock and that only its owner can connect to. Raises ConfigError if others may
    write in the folder: whoever can put another socket there can be taken for us."""
    try:
        folder.mkdir(mode=0o755, exist_ok=True)
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise _refused(folder, error.strerror or "it cannot be opened") from error
    try:
        found = os.fstat(directory)
        if found.st_uid != os.geteuid():
            raise _refused(folder, "it belongs to another user")
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise _refused(folder, "others may write in it")
        return _listen(directory)
    finally:
        os.close(directory)


def _listen(directory: int) -> socket.socket:
    with suppress(FileNotFoundError):  # a daemon that was killed left it; the store's lock says that none runs
        os.unlink(SOCKET_NAME, dir_fd=directory)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(sock.fileno(), 0o600)  # before it has a name: nobody can be quicker than a chmod
        # By the directory that was checked, and however long its path is: a socket's name has room for 107 bytes.
        sock.bind(f"/proc/self/fd/{directory}/{SOCKET_NAME}")
        sock.listen()
    except OSError as error:
        sock.close()
        raise ConfigError(f"The admin socket cannot be made: {error.strerror}.") from error
    return sock


def _refused(folder: Path, why: str) -> ConfigError:
    return ConfigError(
        f"The admin socket needs {folder} to itself, and {why}.", next_step="Remove the folder; it is made anew."
    )


@dataclass(frozen=True, slots=True)
class OwnersGate:
    """Lets root and the daemon's own user pass. `uid` is whom the kernel says the client is."""

    uid: int

    def check(self, _request: Request) -> Response | None:
        if self.uid in {0, os.geteuid()}:
            return None
        return refusal(403, "Only root and the daemon's own user may ask this.")

    def without_token(self, request: Request) -> Request:
        return request


class AdminDoor:
    """Answers by `routes` until cancelled."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = RouteTable(routes)
        self._statistics = GatewayStatistics()
        self._vigil = Vigil(self._statistics)
        self._reception = Reception(ADMIN_CLIENTS_MAX, self._statistics)
        self._senders = trio.CapacityLimiter(1)

    async def serve(self, listener: socket.socket, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve clients of this listening socket, which becomes ours."""
        with listener:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._vigil.run)
                nursery.start_soon(self._reception.accept, listener, self._attend, nursery)
                task_status.started()

    async def _attend(self, sock: socket.socket) -> None:
        gate = OwnersGate(uid_of(sock))
        desk = Desk(gate, self._routes, self._vigil, self._reception, self._statistics)
        await ClientConnection(ClientStream(sock, self._senders), desk).run()


def uid_of(sock: socket.socket) -> int:
    """The user at the other end, as it was when it connected."""
    _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)
