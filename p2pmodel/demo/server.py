"""HTTP/1.1 for the demo hub: h11 on a trio stream, bodies by sendfile, and every way in which a body can go wrong."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import responses
from typing import Final, cast

import h11
import trio

from p2pmodel.demo.counters import Counters
from p2pmodel.demo.exchange import Answer, Request, Span
from p2pmodel.demo.faults import NO_FAULT, Fault, Faults
from p2pmodel.demo.pace import Pace

_HEAD_BYTES_MAX: Final = 64 * 1024
_BODY_BYTES_MAX: Final = 128 * 1024 * 1024  # of a request: a file that is uploaded in one piece
_RECEIVE_BYTES: Final = 64 * 1024
_IDLE_S: Final = 75.0  # a kept-alive connection
_SEND_S: Final = 600.0  # one piece to a client that does not read


@dataclass(frozen=True, slots=True)
class _FileSlice:
    fd: int
    offset: int
    count: int

    def __len__(self) -> int:
        return self.count


class HttpServer:
    """Serves one host name: `answer` decides, this class obeys, counts and plays the faults."""

    def __init__(
        self, host: str, answer: Callable[[Request], Answer], *, faults: Faults, counters: Counters, pace: Pace
    ) -> None:
        self._host = host
        self._answer = answer
        self._faults = faults
        self._counters = counters
        self._pace = pace

    async def handle(self, stream: trio.abc.Stream) -> None:
        """Serve a client's connection until either side ends it. Does not raise for anything that the client does."""
        self._counters.connected()
        try:
            async with stream:
                await self._serve(stream, h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES_MAX))
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, h11.RemoteProtocolError):
            self._counters.broken_connections += 1
        finally:
            self._counters.disconnected()

    async def _serve(self, stream: trio.abc.Stream, connection: h11.Connection) -> None:
        while (request := await _receive_request(stream, connection)) is not None:
            fault = NO_FAULT if request.steers else self._faults.take(self._host, request)
            if fault is not NO_FAULT:
                self._counters.faults_played += 1
            if fault.delay_s:
                await trio.sleep(fault.delay_s)
            if fault.drop:
                return
            answer = fault.alter(self._answer(request.without("range") if fault.ignore_range else request))
            if not request.steers:
                self._counters.answered(self._host, request, answer)
            if not await self._send_answer(stream, connection, request, answer, fault):
                return
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()

    async def _send_answer(
        self,
        stream: trio.abc.Stream,
        connection: h11.Connection,
        request: Request,
        answer: Answer,
        fault: Fault,
    ) -> bool:
        """Whether the connection may be used again."""
        headers = {"Content-Length": str(len(answer.body))} | answer.headers
        if fault.extra_bytes:
            headers["Content-Length"] = str(len(answer.body) + fault.extra_bytes)
        if fault.endless:
            del headers["Content-Length"]
        head = h11.Response(
            status_code=answer.status,
            headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
            reason=responses.get(answer.status, "").encode(),
        )
        await stream.send_all(connection.send(head))
        has_body = request.method != "HEAD" and answer.status != HTTPStatus.NOT_MODIFIED
        if has_body and not await self._send_body(stream, connection, answer.body, fault):
            return False
        await stream.send_all(connection.send(h11.EndOfMessage()))
        return True

    async def _send_body(self, stream: trio.abc.Stream, connection: h11.Connection, body: bytes | Span, fault: Fault) -> bool:
        own_pace = Pace(fault.rate)
        cut_at = fault.cut_at
        count = len(body) if cut_at is None else min(len(body), cut_at)
        size = min(self._pace.piece_bytes, own_pace.piece_bytes)
        with _opened(body) as opened:
            for piece in _pieces(body, opened, count, size, fault.flip_at):
                await own_pace.take(len(piece))
                await self._pace.take(len(piece))
                await _send_piece(stream, connection, piece)
                if isinstance(body, Span):
                    self._counters.sent(body, len(piece))
        if cut_at is not None and count == cut_at:
            await _cut(stream, fault)
            return False
        for piece in _padding(fault, size):
            await own_pace.take(len(piece))
            await self._pace.take(len(piece))
            await _send_piece(stream, connection, piece)
        return True


async def _receive_request(stream: trio.abc.Stream, connection: h11.Connection) -> Request | None:
    """The next request with its body; None when the client is done."""
    head = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                await stream.send_all(connection.send(h11.InformationalResponse(status_code=100, headers=[])))
            with trio.move_on_after(_IDLE_S) as idle:
                connection.receive_data(bytes(await stream.receive_some(_RECEIVE_BYTES)))
            if idle.cancelled_caught:
                return None
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > _BODY_BYTES_MAX:
                raise h11.RemoteProtocolError("request body too large", error_status_hint=413)
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
            return Request(head.method.decode("latin-1"), head.target.decode("latin-1"), headers, bytes(body))
        else:
            return None


@contextmanager
def _opened(body: bytes | Span) -> Iterator[int]:
    """A file descriptor of a body that lies on disk, -1 for any other."""
    if isinstance(body, bytes) or isinstance(body.content.body, bytes):
        yield -1
        return
    try:
        fd = os.open(body.content.body, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise trio.BrokenResourceError(f"{body.label} is no longer on disk") from error
    try:
        yield fd
    finally:
        os.close(fd)


def _pieces(body: bytes | Span, fd: int, count: int, size: int, flip_at: int | None) -> Iterator[memoryview | _FileSlice]:
    """The first `count` bytes of a body in pieces of `size`, with one byte of the file flipped if asked for."""
    start = 0 if isinstance(body, bytes) else body.start
    data = body if isinstance(body, bytes) else body.content.body
    for offset in range(start, start + count, size):
        length = min(size, start + count - offset)
        if flip_at is not None and offset <= flip_at < offset + length:
            piece = bytearray(data[offset : offset + length] if isinstance(data, bytes) else os.pread(fd, length, offset))
            piece[flip_at - offset] ^= 0xFF
            yield memoryview(piece)
        elif isinstance(data, bytes):
            yield memoryview(data)[offset : offset + length]
        else:
            yield _FileSlice(fd, offset, length)


def _padding(fault: Fault, size: int) -> Iterator[memoryview]:
    """Bytes that no file has: as many as asked for, or for ever."""
    left = fault.extra_bytes
    while fault.endless or left > 0:
        length = size if fault.endless else min(size, left)
        left -= length
        yield memoryview(bytes(length))


async def _send_piece(stream: trio.abc.Stream, connection: h11.Connection, piece: memoryview | _FileSlice) -> None:
    # h11 frames whatever has a length and hands it back.
    for part in connection.send_with_data_passthrough(h11.Data(data=cast("bytes", piece))) or ():
        with trio.fail_after(_SEND_S):
            if isinstance(part, _FileSlice):
                await _send_file(stream, part)
            else:
                await stream.send_all(part)


async def _send_file(stream: trio.abc.Stream, part: _FileSlice) -> None:
    if not isinstance(stream, trio.SocketStream):
        await stream.send_all(os.pread(part.fd, part.count, part.offset))
        return
    offset, left = part.offset, part.count
    while left:
        try:
            sent = os.sendfile(stream.socket.fileno(), part.fd, offset, left)
        except BlockingIOError:
            await trio.lowlevel.wait_writable(stream.socket)
            continue
        except OSError as error:
            raise trio.BrokenResourceError from error
        if sent == 0:
            raise trio.BrokenResourceError("the file is shorter than when it was added")
        offset += sent
        left -= sent
    await trio.lowlevel.checkpoint()


async def _cut(stream: trio.abc.Stream, fault: Fault) -> None:
    """End in the middle: the caller closes with FIN unless the fault wants something worse."""
    if fault.cut_at == fault.stall_at:
        while await stream.receive_some(_RECEIVE_BYTES):
            pass
    elif fault.cut_at == fault.reset_at:
        if isinstance(stream, trio.SocketStream):
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(stream)
