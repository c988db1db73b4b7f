"""A peer as a source of chunks: a few data connections, opened with tickets, kept for the next order.

Each chunk is hashed piece by piece as it arrives, by the thread that received the piece: in that core's cache it is cheapest.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import blake3
import trio

from p2pmodel.content import Grade, NodeId
from p2pmodel.delivery.ports import Order, Sink
from p2pmodel.errors import NotHeldError, PeerProtocolError, ShortAnswerError, SourceError, StrangerError, WrongBytesError
from p2pmodel.limits import (
    CHUNK_PROGRESS_TIMEOUT_S,
    CHUNKS_PER_GET_MAX,
    CONNECTIONS_PER_PEER_MAX,
    DATA_IDLE_S,
    DIAL_TIMEOUT_S,
    HANDSHAKE_TIMEOUT_S,
)
from p2pmodel.network import Address, ByteStream, Network
from p2pmodel.peering.connection import Connection, error_of, patience
from p2pmodel.peering.link import Link
from p2pmodel.peering.secure import Secure
from p2pmodel.peering.statistics import PeeringStatistics
from p2pmodel.wire import Role, Secrecy, Session, Unknown
from p2pmodel.wire.messages import AskTicket, Attach, Attached, Chunk, Get, Hello, Problem, Ticket


async def dial(network: Network, address: Address) -> ByteStream:
    """A stream to a peer's port. Raises ShortAnswerError if nobody answers there in time."""
    try:
        with patience(DIAL_TIMEOUT_S):
            return await network.dial(address)
    except OSError as error:
        raise ShortAnswerError(f"nobody answers at {address}: {error.strerror or error}") from error


@dataclass(slots=True, eq=False)
class _Idle:
    connection: Connection
    since: float


class PeerSource:
    """The `Source` that is one peer, for as long as the link to it. `on_spoilt` is told when wrong bytes came on a plain
    connection: from then on all comes over TLS."""

    def __init__(
        self,
        link: Link,
        *,
        network: Network,
        secure: Secure,
        plain: bool,
        statistics: PeeringStatistics,
        on_spoilt: Callable[[NodeId], None] = lambda _peer: None,
    ) -> None:
        self._on_spoilt = on_spoilt
        self._link = link
        self._network = network
        self._secure = secure
        self._plain = plain
        self._statistics = statistics
        self._free = trio.Semaphore(CONNECTIONS_PER_PEER_MAX)
        self._idle: list[_Idle] = []
        self._closed = False

    async def fetch(self, order: Order, sink: Sink) -> None:
        """Deliver the order's chunks. Raises SourceError; what `sink` raises passes through."""
        async with self._free:
            if (kept := self._take_idle(secret=order.private or not self._plain)) is not None:
                before = kept.received
                try:
                    return await self._fetch_over(kept, order, sink)
                except ShortAnswerError:
                    if kept.received > before:
                        raise
                    await self._close_idle()  # the peer has tired of waiting, which costs the order nothing
            await self._make_room()
            return await self._fetch_over(await self._connect(private=order.private), order, sink)

    async def expire(self, now: float) -> None:
        """Close the connections that nobody has used for a while."""
        while old := [idle for idle in self._idle if now - idle.since >= DATA_IDLE_S]:  # an order may take one while one closes
            self._idle.remove(old[0])
            await old[0].connection.aclose()

    async def aclose(self) -> None:
        self._closed = True
        await self._close_idle()

    def _take_idle(self, *, secret: bool) -> Connection | None:
        """The last used that will do."""
        for idle in reversed(self._idle):
            if not secret or idle.connection.session.secrecy is Secrecy.TLS:
                self._idle.remove(idle)
                return idle.connection
        return None

    async def _make_room(self) -> None:
        """Idle connections count at the peer: when it serves as many as it will, one that does not do for this order goes."""
        while len(self._idle) > self._free.value:
            await self._idle.pop(0).connection.aclose()

    async def _close_idle(self) -> None:
        with trio.CancelScope(shield=True):
            while self._idle:
                await trio.aclose_forcefully(self._idle.pop().connection.stream)

    # Connections

    async def _connect(self, *, private: bool) -> Connection:
        link = self._link
        (ticket,) = await link.ask(AskTicket(request=1))
        assert isinstance(ticket, Ticket)  # the session checks what answers what
        if not link.address.port:
            raise SourceError("this peer does not listen for connections")
        plain = ticket.plain and self._plain and not private
        async with AsyncExitStack() as undoing:
            stream = await dial(self._network, link.address)
            undoing.push_async_callback(trio.aclose_forcefully, stream)
            with patience(HANDSHAKE_TIMEOUT_S):
                connection = await self._prove(stream, plain=plain)
                await connection.send(Attach(ticket=ticket.ticket))
                await connection.expect(Attached)
            undoing.pop_all()
        return connection

    async def _prove(self, stream: ByteStream, *, plain: bool) -> Connection:
        traffic = (self._statistics.traffic, self._link.traffic)
        if plain:
            session = Session(Role.DIALLER, Secrecy.PLAIN)
            return Connection(stream, session, *traffic, patience_s=CHUNK_PROGRESS_TIMEOUT_S)
        stream, node = await self._secure.wrap_dialled(stream, self._link.connection.stream.cluster)
        if node != self._link.peer:
            raise StrangerError(f"another node answers at {stream.remote}")
        connection = Connection(stream, Session(Role.DIALLER), *traffic, patience_s=CHUNK_PROGRESS_TIMEOUT_S)
        await connection.expect(Hello)
        return connection

    # Chunks

    async def _fetch_over(self, connection: Connection, order: Order, sink: Sink) -> None:
        """Over one connection, which is kept if the answer was complete: the middle of one is no use to the next order."""
        try:
            await self._deliver(connection, order, sink)
        except PeerProtocolError:
            self._statistics.protocol_errors["fetching"] += 1
            raise
        except NotHeldError:  # the Get is over and the connection as good as before
            self._keep(connection)
            raise
        else:
            self._keep(connection)
        finally:
            if not any(idle.connection is connection for idle in self._idle):
                await connection.aclose()

    def _keep(self, connection: Connection) -> None:
        if not self._closed:
            self._idle.append(_Idle(connection, trio.current_time()))

    async def _deliver(self, connection: Connection, order: Order, sink: Sink) -> None:
        for first in range(order.first, order.first + order.count, CHUNKS_PER_GET_MAX):
            count = min(CHUNKS_PER_GET_MAX, order.first + order.count - first)
            request = connection.session.next_request
            get = Get(request=request, blob=order.blob.id.to_bytes(), size=order.blob.size, first=first, count=count)
            await connection.send(get)
            for _ in range(count):
                await self._receive_chunk(connection, await self._announced(connection), sink)

    async def _announced(self, connection: Connection) -> Chunk:
        """The next chunk's announcement; the session has checked that it is the one that was asked for."""
        while not isinstance(message := await connection.receive(), Chunk):
            if isinstance(message, Problem):
                raise NotHeldError(str(error_of(message))) if message.code == "not_held" else error_of(message)
            if not isinstance(message, Unknown):
                raise ShortAnswerError("the peer closed the connection in the middle of an order")
            await connection.send(Problem(request=message.request, code="unknown_message"))
        return message

    async def _receive_chunk(self, connection: Connection, chunk: Chunk, sink: Sink) -> None:
        async with sink.buffer() as buffer:
            data = buffer[: chunk.size]
            hasher = blake3.blake3()
            await connection.receive_body(data, sink.allow, sink.progress, hasher.update)
            self._statistics.chunks_received += 1
            plain = connection.session.secrecy is Secrecy.PLAIN
            try:
                await sink.arrived(
                    chunk.index,
                    data,
                    hasher.digest(),
                    claimed=chunk.digest,
                    grade=Grade.SINGLE,
                    word=chunk.attestation,
                    plain=plain,
                )
            except WrongBytesError:
                if plain:
                    self._plain = False
                    self._on_spoilt(self._link.peer)
                raise
