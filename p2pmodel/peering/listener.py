"""The door for peers: who comes in, proves in time who they are, and becomes a link or a data connection.

Before that proof nobody gets more than a socket: so many at once, so many an address, so many seconds (`antechamber`). Who
comes from where a linked peer is waits apart, so that a crowd of strangers holds up no order between members. The first
byte tells TLS from a plain data connection, which shows a ticket instead of a certificate.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import trio

from p2pmodel.content import NodeId
from p2pmodel.errors import OtherVersionError, PeerProtocolError, ShortAnswerError, SourceError, StrangerError
from p2pmodel.limits import HANDSHAKE_TIMEOUT_S
from p2pmodel.network import ByteStream
from p2pmodel.peering.antechamber import Antechamber, Place
from p2pmodel.peering.connection import Connection, patience
from p2pmodel.peering.secure import SECURE_FIRST_BYTE, Secure
from p2pmodel.peering.statistics import PeeringStatistics
from p2pmodel.wire import Role, Secrecy, Session
from p2pmodel.wire.messages import Attach, Attached, Hello, Problem


@dataclass(frozen=True, slots=True)
class Reception:
    """What the listener asks of its house."""

    admits: Callable[[str], bool]  # whether to talk to this host at all
    knows: Callable[[str], bool]  # whether a linked peer is there
    hello: Callable[[], Hello]
    spend: Callable[[bytes], NodeId | None]  # whose ticket
    link: Callable[[Connection, NodeId, Hello], Awaitable[None]]
    seed: Callable[[Connection, NodeId], Awaitable[None]]
    other_version: Callable[[str], None]  # a node at this host shares none with us


class Listener:
    """`handle` takes each accepted stream through its proof and hands it on; it returns when the connection has ended."""

    def __init__(self, *, secure: Secure, plain: bool, reception: Reception, statistics: PeeringStatistics) -> None:
        self._secure = secure
        self._plain = plain  # whether plain data connections are let in
        self._reception = reception
        self._statistics = statistics
        self._members, self._strangers = Antechamber(), Antechamber()

    async def handle(self, stream: ByteStream) -> None:
        host = stream.remote.host
        async with AsyncExitStack() as leaving:
            leaving.push_async_callback(trio.aclose_forcefully, stream)
            antechamber = self._members if self._reception.knows(host) else self._strangers
            if not self._reception.admits(host) or antechamber.refuses(host):
                self._statistics.refused += 1
                return
            with failed_openings_counted(self._statistics):
                try:
                    with patience(HANDSHAKE_TIMEOUT_S) as scope, antechamber.place(host, scope) as place:
                        connection, peer = await self._identify(stream, place)
                        leaving.push_async_callback(connection.aclose)
                        onward = await self._open(connection, peer)
                except OtherVersionError:
                    self._reception.other_version(host)
                    raise
                await onward()

    async def _identify(self, stream: ByteStream, place: Place) -> tuple[Connection, NodeId | None]:
        """A connection and whose it is; nobody's yet if it is a plain one."""
        first = await stream.peek()
        if first == SECURE_FIRST_BYTE:
            secured, peer = await self._secure.wrap_accepted(stream, place.answering)
            return Connection(secured, Session(Role.LISTENER), self._statistics.traffic), peer
        if not first:
            raise ShortAnswerError("the connection ended before it began")
        if not self._plain:
            raise StrangerError("plain connections are switched off here")
        return Connection(stream, Session(Role.LISTENER, Secrecy.PLAIN), self._statistics.traffic), None

    async def _open(self, connection: Connection, peer: NodeId | None) -> Callable[[], Awaitable[None]]:
        """What the connection is for."""
        if peer is None:
            return await self._attach(connection, await connection.expect(Attach), None)
        await connection.send(self._reception.hello())
        first = await connection.listen()
        if isinstance(first, Attach):
            return await self._attach(connection, first, peer)
        assert isinstance(first, Hello)  # the session lets nothing else through here
        return partial(self._reception.link, connection, peer, first)

    async def _attach(self, connection: Connection, attach: Attach, peer: NodeId | None) -> Callable[[], Awaitable[None]]:
        owner = self._reception.spend(attach.ticket)
        if owner is None or peer not in (None, owner):
            self._statistics.tickets_refused += 1
            await connection.send(Problem(code="bad_ticket"))
            raise StrangerError("the ticket is not good")
        await connection.send(Attached())
        return partial(self._reception.seed, connection, owner)


@contextmanager
def failed_openings_counted(statistics: PeeringStatistics) -> Iterator[None]:
    """A connection that does not come about is counted and ends here."""
    try:
        yield
    except PeerProtocolError:
        statistics.protocol_errors["opening"] += 1
    except SourceError:
        statistics.handshakes_failed += 1
