"""The real network: TCP on non-blocking sockets.

Measured (docs of the data plane, CPU-seconds per GB): `recv_into` a buffer that is already there costs 0.19, trio's own
`receive_some(64 KiB)` 0.71. So a stream tries the system call first and waits for the socket only when that would block;
a checkpoint after each success keeps one fast peer from starving the others. What leaves a file leaves by sendfile. Chunk
bodies are received and hashed in worker threads, a piece at a time and never blocking there: one thread for all peers ended
at 2 GB/s, with the other cores idle (benchmarks/peer_transfer.py).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import trio
from trio.lowlevel import checkpoint, notify_closing, wait_readable, wait_writable

from p2pmodel.limits import MIB, SEED_PROGRESS_TIMEOUT_S
from p2pmodel.network import Address, ByteStream

T = TypeVar("T")

_RECEIVE_BYTES: Final = 64 * 1024
_STEP_BYTES_MAX: Final = MIB  # what one system call may move: 0.3 ms, and still in the cache when it is hashed
_BODY_BYTES: Final = 2 * MIB  # of a chunk are worth a turn of the event loop and a thread's
_BODY_WAIT_MAX_S: Final = 0.05  # unless they take longer
_BACKLOG: Final = 128
_CLOSED: Final = "this stream is closed"


class TcpStream(ByteStream):
    """A connected TCP socket. Takes it over."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # trio's listeners leave 16 KiB here, which would wake a sendfile loop for every 16 KiB; 0 is the system's own.
        # SO_SNDBUF stays unset: setting it would switch the kernel's autotuning off.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 0)
        # What a peer does not take would stay with the kernel for minutes after we have closed: megabytes a connection.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SEED_PROGRESS_TIMEOUT_S * 1000))
        self._socket = sock
        self._remote = _address(sock.getpeername())
        self._local = _address(sock.getsockname())
        self._low_water = 1  # bytes that wake us

    @property
    def remote(self) -> Address:
        return self._remote

    @property
    def local(self) -> Address:
        return self._local

    async def peek(self) -> bytes:
        return await self._when(self._some_bytes, self._socket.recv, 1, socket.MSG_PEEK)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._when(self._some_bytes, self._socket.recv, max_bytes or _RECEIVE_BYTES)

    async def receive_into(self, buffer: memoryview) -> int:
        return await self._when(self._some_bytes, self._receive_step, buffer[:_STEP_BYTES_MAX])

    def _receive_step(self, buffer: memoryview) -> int:
        """All that is there: one turn of the event loop costs as much as receiving 100 KiB."""
        done = self._socket.recv_into(buffer)
        try:
            while 0 < done < len(buffer) and (count := self._socket.recv_into(buffer[done:])):
                done += count
        except OSError:  # nothing more now; if it is worse, the next call says so
            pass
        return done

    async def receive_body(self, buffer: memoryview, seen: Callable[[memoryview], object]) -> int:
        while True:
            with trio.move_on_after(_BODY_WAIT_MAX_S):  # so that a slow peer's progress shows
                await self._bytes(min(len(buffer), _BODY_BYTES))
            try:
                return await trio.to_thread.run_sync(self._body_step, buffer, seen)
            except BlockingIOError:
                await self._bytes(1)
            except OSError as error:
                raise self._broken(error) from error

    def _body_step(self, buffer: memoryview, seen: Callable[[memoryview], object]) -> int:
        """All that is there, in a worker thread."""
        done = 0
        while done < len(buffer):
            try:
                count = self._socket.recv_into(buffer[done:])
            except OSError:  # nothing more now; if it is worse, the next call says so
                if not done:
                    raise
                break
            if not count:
                break
            seen(buffer[done : done + count])
            done += count
        return done

    async def _some_bytes(self, _sock: socket.socket) -> None:
        await self._bytes(1)

    async def _bytes(self, count: int) -> None:
        """Sleep until so many are there, or the end of the stream."""
        if self._socket.fileno() == -1:
            raise trio.ClosedResourceError(_CLOSED)
        if count != self._low_water:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
            self._low_water = count
        await wait_readable(self._socket)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with memoryview(data) as view:
            sent = 0
            while sent < len(view):
                with view[sent : sent + _STEP_BYTES_MAX] as step:
                    sent += await self._when(wait_writable, self._socket.send, step)

    async def wait_send_all_might_not_block(self) -> None:
        await wait_writable(self._socket)

    async def send_file(self, fd: int, offset: int, count: int) -> None:
        end = offset + count
        while offset < end:
            offset += await self._when(wait_writable, self._send_file_step, fd, offset, end)

    def _send_file_step(self, fd: int, offset: int, end: int) -> int:
        sent = os.sendfile(self._socket.fileno(), fd, offset, min(end - offset, _STEP_BYTES_MAX))
        if not sent:
            raise _FileEndsError(f"file descriptor {fd} ends before offset {end}")
        return sent

    async def aclose(self) -> None:
        if self._socket.fileno() != -1:
            notify_closing(self._socket)
            self._socket.close()
        await checkpoint()

    async def _when(self, ready: Callable[[socket.socket], Awaitable[None]], call: Callable[..., T], *args: object) -> T:
        """The result of a system call, tried at once and again whenever the socket is ready."""
        tried = False
        while True:
            try:
                result = call(*args)
                break
            except BlockingIOError:
                tried = True
                await ready(self._socket)
            except _FileEndsError:
                raise
            except OSError as error:
                raise self._broken(error) from error
        if not tried:
            await checkpoint()
        return result

    def _broken(self, error: OSError) -> Exception:
        if self._socket.fileno() == -1:
            return trio.ClosedResourceError(_CLOSED)
        return trio.BrokenResourceError(f"connection with {self._remote}: {error.strerror}")


class TcpListener:
    """A bound and listening socket."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self._listener = listener
        self.port: int = listener.socket.getsockname()[1]

    async def serve(self, handle: Callable[[ByteStream], Awaitable[None]], nursery: trio.Nursery) -> None:
        async def accepted(stream: trio.SocketStream) -> None:
            try:
                taken = _take(stream)
            except OSError:  # gone between its SYN and our accept
                return
            async with taken:
                await handle(taken)

        await trio.serve_listeners(accepted, [self._listener], handler_nursery=nursery)

    async def aclose(self) -> None:
        await self._listener.aclose()


class TcpNetwork:
    """The `Network` of a real machine."""

    async def dial(self, address: Address) -> TcpStream:
        with _no_names_refused(address.host):
            return _take(await trio.open_tcp_stream(address.host, address.port))

    async def listen(self, host: str, port: int) -> TcpListener:
        with _no_names_refused(host):
            first, *others = await trio.open_tcp_listeners(port, host=host, backlog=_BACKLOG)
        for listener in others:  # a name with several addresses: one is what was asked for
            await listener.aclose()
        return TcpListener(first)


class _FileEndsError(OSError):
    """Our own file is too short: no fault of the connection."""


@contextmanager
def _no_names_refused(host: str) -> Iterator[None]:
    """What is no name at all ("a..b") fails as one that nobody has."""
    try:
        yield
    except UnicodeError as error:
        raise OSError(f"{host[:100]!r} is no name of a host") from error


def _take(stream: trio.SocketStream) -> TcpStream:
    return TcpStream(socket.socket(fileno=stream.socket.detach()))


def _address(name: tuple[str, int, *tuple[object, ...]]) -> Address:
    host = name[0].partition("%")[0]
    return Address(host.removeprefix("::ffff:") if "." in host else host, name[1])
