"""A client's connection over TLS: the verbs of `ClientStream`, with an `ssl.SSLObject` between them and the socket.

For clients that cannot ask plain http of localhost. Bodies cannot leave by sendfile here: a thread reads and seals piece by
piece, so that neither the disk nor the cipher holds the loop.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Final

import trio

from p2pmodel.gateway.stream import ClientStream, read_span
from p2pmodel.limits import KIB, REQUEST_HEAD_TIMEOUT_S

_PIECE_BYTES: Final = 256 * KIB  # sealed at a time: what a slow client can hold of our memory, twice


class TlsStream:
    """Errors of every verb: trio.BrokenResourceError when the client is gone, or is no TLS client."""

    def __init__(self, wire: ClientStream, context: ssl.SSLContext, senders: trio.CapacityLimiter) -> None:
        self._wire = wire
        self._senders = senders
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def handshake(self) -> None:
        """Raises BrokenResourceError for a client that does not trust us, speaks no TLS or takes too long."""
        with trio.move_on_after(REQUEST_HEAD_TIMEOUT_S):
            while True:
                try:
                    self._tls.do_handshake()
                except ssl.SSLWantReadError:
                    await self._flush()
                    await self._receive_records()
                except ssl.SSLError as error:
                    with contextlib.suppress(trio.BrokenResourceError):
                        await self._flush()  # the alert that says why
                    raise trio.BrokenResourceError from error
                else:
                    await self._flush()
                    return
        raise trio.BrokenResourceError("the client did not finish the handshake")

    async def receive(self) -> bytes:
        """Some bytes; b"" once the client has said its last."""
        while True:
            try:
                data = self._tls.read(_PIECE_BYTES)
            except ssl.SSLWantReadError:
                await self._flush()  # the answer to a key update
                await self._receive_records()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            except ssl.SSLError as error:
                raise trio.BrokenResourceError from error
            else:
                await trio.lowlevel.checkpoint()
                return data

    async def send_all(self, data: bytes, *, more: bool = False) -> None:  # noqa: ARG002  # a record leaves at once
        with memoryview(data) as view:
            for start in range(0, len(view), _PIECE_BYTES):
                self._seal(view[start : start + _PIECE_BYTES])
                await self._flush()

    async def send_file(self, fd: int, offset: int, count: int, *, head: bytes = b"") -> None:
        """Send `head`, then `count` bytes of an open file. Raises StoreError if the disk does not give them."""
        await self.send_all(head)
        stop = offset + count
        while offset < stop:
            piece = min(stop - offset, _PIECE_BYTES)
            await trio.to_thread.run_sync(self._seal_file, fd, offset, piece, limiter=self._senders)
            await self._flush()
            offset += piece

    def _seal_file(self, fd: int, offset: int, count: int) -> None:
        self._seal(read_span(fd, offset, count))

    def _seal(self, data: bytes | memoryview) -> None:
        left = memoryview(data)
        while left:
            try:
                left = left[self._tls.write(left) :]
            except ssl.SSLError as error:
                raise trio.BrokenResourceError from error

    def try_send(self, data: bytes) -> None:
        """Send a few bytes now. Where they do not fit at once the client is as good as gone."""
        self._seal(data)
        self._wire.try_send(self._outgoing.read())

    @property
    def gone(self) -> bool:
        """Whether the client has closed its end, its goodbye still unread or not."""
        return self._wire.ended

    async def finish(self) -> None:
        """End with TLS's goodbye and FIN; see `ClientStream.finish`."""
        with contextlib.suppress(ssl.SSLError, trio.BrokenResourceError):
            try:
                self._tls.unwrap()
            finally:  # that its own goodbye is still to come is an error here
                await self._flush()
        await self._wire.finish()

    def close(self) -> None:
        self._wire.close()

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._wire.send_all(self._outgoing.read())

    async def _receive_records(self) -> None:
        data = await self._wire.receive()
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
