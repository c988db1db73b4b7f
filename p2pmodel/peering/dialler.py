"""Dials the directory's candidates: so many a second, so many at once, each until a link stands or a deadline passes."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import trio

from p2pmodel.content import NodeId
from p2pmodel.errors import OtherVersionError, PeerProtocolError, SourceError, StrangerError
from p2pmodel.limits import DIALS_AT_ONCE_MAX, DIALS_PER_S_MAX, HANDSHAKE_TIMEOUT_S, LINKS_MAX
from p2pmodel.network import Address, Network
from p2pmodel.peering.connection import Connection, patience
from p2pmodel.peering.directory import Directory, Entry
from p2pmodel.peering.links import Links
from p2pmodel.peering.secure import Secure
from p2pmodel.peering.source import dial
from p2pmodel.peering.statistics import PeeringStatistics
from p2pmodel.wire import Role, Session
from p2pmodel.wire.messages import Hello


class Dialler:
    """`live` runs the link that a dial has brought, until it ends."""

    def __init__(
        self,
        *,
        own: NodeId,
        directory: Directory,
        links: Links,
        network: Network,
        secure: Secure,
        hello: Callable[[], Hello],
        live: Callable[[Connection, NodeId, Hello, Address], Awaitable[None]],
        statistics: PeeringStatistics,
        other_version: Callable[[str], None],
    ) -> None:
        self.static_hosts: set[str] = set()  # what the configured names turned out to be
        self._own = own
        self._directory = directory
        self._links = links
        self._network = network
        self._secure = secure
        self._hello = hello
        self._live = live
        self._statistics = statistics
        self._other_version = other_version
        self._stirred = trio.Event()
        self._dialling = 0

    def stir(self) -> None:
        """Something was heard or lost: look again whom to dial."""
        self._stirred.set()

    async def run(self, nursery: trio.Nursery) -> None:
        """For ever; the links live in `nursery`, so that they outlast the dialling."""
        while True:
            self._stirred = trio.Event()
            entry = self._next() if self._hands_free else None
            if entry is not None:
                entry.dialling = True
                self._dialling += 1
                nursery.start_soon(self._dial, entry)
                await trio.sleep(1 / DIALS_PER_S_MAX)
                continue
            # With its hands full it waits for a dial or a link to end: whoever is due meanwhile stays due.
            with trio.CancelScope(deadline=self._directory.next_due(self._links) if self._hands_free else math.inf):
                await self._stirred.wait()

    @property
    def _hands_free(self) -> bool:
        return self._dialling < DIALS_AT_ONCE_MAX and len(self._links) < LINKS_MAX

    def _next(self) -> Entry | None:
        return next(iter(self._directory.due(trio.current_time(), self._links)), None)

    async def _dial(self, entry: Entry) -> None:
        self._statistics.dials += 1
        async with AsyncExitStack() as leaving:
            try:
                connection, peer, hello = await self._greet(entry, leaving)
            except SourceError as error:
                self._count(error)
                if isinstance(error, OtherVersionError):
                    self._other_version(entry.address.host)
                self._directory.failed(entry, trio.current_time())
                return
            finally:
                self._dialling -= 1
                self.stir()
            self._directory.proved(entry, peer, trio.current_time())
            if peer != self._own:
                await self._live(connection, peer, hello, Address(connection.stream.remote.host, entry.address.port))

    async def _greet(self, entry: Entry, leaving: AsyncExitStack) -> tuple[Connection, NodeId, Hello]:
        stream = await dial(self._network, entry.address)
        leaving.push_async_callback(trio.aclose_forcefully, stream)
        if entry.origin == "static":
            self.static_hosts.add(stream.remote.host)
        with patience(HANDSHAKE_TIMEOUT_S):
            stream, peer = await self._secure.wrap_dialled(stream)
            connection = Connection(stream, Session(Role.DIALLER), self._statistics.traffic)
            leaving.push_async_callback(connection.aclose)
            hello = await connection.expect(Hello)
            if peer != self._own:
                await connection.send(self._hello())
        return connection, peer, hello

    def _count(self, error: SourceError) -> None:
        self._statistics.dials_failed += 1
        self._statistics.handshakes_failed += isinstance(error, StrangerError)
        self._statistics.protocol_errors["opening"] += isinstance(error, PeerProtocolError)
