"""Chunks for peers: answers the Gets of one data connection, in order, straight from the store's files.

The next Get waits in the socket while one is answered: pipelining costs no queue, and a peer that does not take its bytes
holds up nobody but itself, for SEED_PROGRESS_TIMEOUT_S without progress. Where our own limit is short, all who are served
take turns slice by slice: whoever waited for longer than CHUNK_PROGRESS_TIMEOUT_S would go elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

import structlog
import trio

from p2pmodel.content import Blob, BlobId, NodeId
from p2pmodel.delivery.pace import Pace, Urgency
from p2pmodel.delivery.ports import PeerEvents, Span
from p2pmodel.errors import PeerProtocolError, ShortAnswerError, SourceError
from p2pmodel.limits import CONNECTIONS_PER_PEER_MAX, DATA_IDLE_S, SEED_PROGRESS_TIMEOUT_S
from p2pmodel.peering.connection import Connection
from p2pmodel.peering.statistics import PeeringStatistics, Traffic
from p2pmodel.wire import Secrecy, Unknown
from p2pmodel.wire.messages import Chunk, Get, Problem

log = structlog.get_logger()

_IDLE_S: Final = 2 * DATA_IDLE_S


class Seeder:
    """`linked` says whether a peer still is one: its data connections end with its link, when the order under way has ended;
    at the next chunk if it is an `outcast`."""

    def __init__(
        self,
        events: PeerEvents,
        statistics: PeeringStatistics,
        pace: Pace,
        *,
        linked: Callable[[NodeId], bool],
        outcast: Callable[[NodeId], bool],
    ) -> None:
        self._events = events
        self._linked = linked
        self._outcast = outcast
        self._pace = pace
        self._statistics = statistics
        self._connections: Counter[NodeId] = Counter()

    async def seed(self, connection: Connection, peer: NodeId, traffic: Traffic) -> None:
        """Serve a data connection until the peer is done with it."""
        if self._connections[peer] >= CONNECTIONS_PER_PEER_MAX:
            self._statistics.refused += 1
            return
        connection.traffic.append(traffic)
        self._connections[peer] += 1
        try:
            await self._serve(connection, peer)
        except PeerProtocolError:
            self._statistics.protocol_errors["seeding"] += 1
        except SourceError:
            pass  # it went away, or was too slow
        finally:
            self._connections[peer] -= 1

    async def _serve(self, connection: Connection, peer: NodeId) -> None:
        while True:
            connection.patience_s = _IDLE_S
            message = await connection.receive()
            connection.patience_s = SEED_PROGRESS_TIMEOUT_S
            if not self._linked(peer):
                return
            if isinstance(message, Get):
                await self._answer(connection, peer, message)
            elif isinstance(message, Unknown):
                await connection.send(Problem(request=message.request, code="unknown_message"))
            elif not isinstance(message, Problem):  # Bye, or the end
                return

    async def _answer(self, connection: Connection, peer: NodeId, get: Get) -> None:
        blob = Blob(BlobId.from_bytes(get.blob), get.size)
        for index in range(get.first, get.first + get.count):
            if self._outcast(peer):
                raise SourceError("this peer is not trusted any more")
            span = await self._events.seed(peer, blob, index)
            if span is None:
                await connection.send(Problem(request=get.request, code="not_held"))
                return
            with span:
                if span.private and connection.session.secrecy is not Secrecy.TLS:
                    await connection.send(Problem(request=get.request, code="not_held"))
                    return
                await self._send(connection, get.request, index, span)

    async def _send(self, connection: Connection, request: int, index: int, span: Span) -> None:
        started = trio.current_time()
        try:
            announcement = Chunk(request=request, index=index, size=span.length, digest=span.digest, attestation=span.word)
            await connection.send_chunk(announcement, span, self._allow)
        except ShortAnswerError:
            self._statistics.slow_readers += trio.current_time() - started >= SEED_PROGRESS_TIMEOUT_S
            raise
        except OSError as error:
            log.warning("seeding.file_failed", chunk=index, error=error.strerror or str(error))
            raise SourceError("our own file failed") from error
        self._statistics.chunks_sent += 1

    async def _allow(self, count: int) -> int:
        return await self._pace.turn(lambda: Urgency.FETCH).take(count)
