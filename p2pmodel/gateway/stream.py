"""A client's connection: our own socket, with the verbs that serving files needs.

The socket stays in blocking mode with a short send timeout, and everything but sendfile passes MSG_DONTWAIT. So a thread can
leave sendfile to the kernel, which sleeps and wakes by itself: 0.05 CPU-s/GiB, as nginx; sendfile and wait_writable in the
trio loop took 0.08, and a file that is not in the page cache would stall the loop. A thread never waits for a slow client:
it comes back when nothing moved for SEND_STALL_S and at the end of its slice; the wait, with its deadline, is trio's.
"""

from __future__ import annotations

import math
import os
import select
import socket
import struct
import time
from typing import Final, Protocol

import trio

from p2pmodel.errors import StoreDamagedError, StoreError
from p2pmodel.limits import (
    KIB,
    LINGER_S,
    MIB,
    SEND_SLICE_S,
    SEND_STALL_S,
    WRITE_TIMEOUT_S,
)

_RECEIVE_BYTES: Final = 64 * KIB
_INLINE_BYTES: Final = 256 * KIB  # shorter bodies are read and sent in the loop: a thread hop costs 0.1 ms
_SENDFILE_BYTES: Final = 1 * MIB  # per system call; longer ones measured no faster


class Stream(Protocol):
    """What a connection needs of its client's line, plain or TLS. What each verb does stands at `ClientStream`."""

    async def receive(self) -> bytes: ...

    async def send_all(self, data: bytes, *, more: bool = False) -> None: ...

    async def send_file(self, fd: int, offset: int, count: int, *, head: bytes = b"") -> None: ...

    def try_send(self, data: bytes) -> None: ...

    @property
    def gone(self) -> bool: ...

    async def finish(self) -> None: ...

    def close(self) -> None: ...


class ClientStream:
    """Errors of every verb: trio.BrokenResourceError when the client is gone or takes nothing for WRITE_TIMEOUT_S."""

    def __init__(self, sock: socket.socket, senders: trio.CapacityLimiter) -> None:
        sock.setblocking(True)
        if sock.family in {socket.AF_INET, socket.AF_INET6}:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(SEND_STALL_S))
        self._sock = sock
        self._senders = senders

    async def receive(self) -> bytes:
        """Some bytes; b"" once the client has said its last."""
        while True:
            try:
                data = self._sock.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._sock)
            except OSError as error:
                raise trio.BrokenResourceError from error
            else:
                await trio.lowlevel.checkpoint()  # a client that always has more to say must not hold the loop
                return data

    async def send_all(self, data: bytes, *, more: bool = False) -> None:
        """`more` says that a body follows at once, so the kernel may wait for it to fill the packet."""
        flags = socket.MSG_DONTWAIT | (socket.MSG_MORE if more else 0)
        left = memoryview(data)
        while left:
            try:
                left = left[self._sock.send(left, flags) :]
            except BlockingIOError:
                await self._writable()
            except OSError as error:
                raise trio.BrokenResourceError from error

    async def send_file(self, fd: int, offset: int, count: int, *, head: bytes = b"") -> None:
        """Send `head`, then `count` bytes of an open file. Raises StoreError if the disk does not give them."""
        if count <= _INLINE_BYTES:
            await self.send_all(head + read_span(fd, offset, count))
            return
        await self.send_all(head, more=True)
        stop = offset + count
        while offset < stop:
            sent = await trio.to_thread.run_sync(self._sendfile, fd, offset, stop - offset, limiter=self._senders)
            if not sent:
                await self._writable()
            offset += sent

    def _sendfile(self, fd: int, offset: int, count: int) -> int:
        """Runs in a thread: send as much as goes without a stall within a slice of time. Returns the bytes sent."""
        sent = 0
        deadline = time.monotonic() + SEND_SLICE_S
        while sent < count and time.monotonic() < deadline:
            try:
                step = os.sendfile(self._sock.fileno(), fd, offset + sent, min(count - sent, _SENDFILE_BYTES))
            except BlockingIOError:
                break
            except (ConnectionError, TimeoutError) as error:
                raise trio.BrokenResourceError from error
            except OSError as error:
                raise StoreError(f"A file of the store cannot be read: {error.strerror}") from error
            if not step:
                raise StoreDamagedError("A file of the store has lost its end")
            sent += step
        return sent

    async def _writable(self) -> None:
        with trio.move_on_after(WRITE_TIMEOUT_S):
            await trio.lowlevel.wait_writable(self._sock)
            return
        raise trio.BrokenResourceError("the client takes nothing")

    def try_send(self, data: bytes) -> None:
        """Send a few bytes now. Where they do not fit at once the client is as good as gone."""
        try:
            sent = self._sock.send(data, socket.MSG_DONTWAIT)
        except OSError as error:
            raise trio.BrokenResourceError from error
        if sent < len(data):
            raise trio.BrokenResourceError("the client takes nothing")

    @property
    def gone(self) -> bool:
        """Whether the client has closed its end. A look, without a wait; what it sent stays unread."""
        try:
            return self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    @property
    def ended(self) -> bool:
        """Whether the client has sent its FIN, also where bytes before it are unread."""
        poll = select.poll()
        poll.register(self._sock, select.POLLRDHUP)
        return bool(poll.poll(0))

    async def finish(self) -> None:
        """End with FIN: say that we are done, then read what still comes, for a while. Closing over unread bytes would send
        RST, which can undo what the client has already received, and costs some clients their whole file."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
            with trio.move_on_after(LINGER_S):
                while await self.receive():
                    pass
        except (OSError, trio.BrokenResourceError):
            pass

    def close(self) -> None:
        self._sock.close()


def read_span(fd: int, offset: int, count: int) -> bytes:
    """All of it. Blocking. Raises StoreError, StoreDamagedError."""
    try:
        data = os.pread(fd, count, offset)
    except OSError as error:
        raise StoreError(f"A file of the store cannot be read: {error.strerror}") from error
    if len(data) < count:
        raise StoreDamagedError("A file of the store has lost its end")
    return data


def _timeval(seconds: float) -> bytes:
    fraction, whole = math.modf(seconds)
    return struct.pack("@ll", int(whole), int(fraction * 1e6))
