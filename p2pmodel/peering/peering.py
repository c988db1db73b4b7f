"""The room's main object: finds peers, keeps one link to each, and is delivery's `Neighbours`."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal, Protocol

import structlog
import trio

from p2pmodel.content import BlobId, NodeId
from p2pmodel.delivery.blocking import Blocking
from p2pmodel.delivery.pace import Pace
from p2pmodel.delivery.ports import PeerEvents, Source
from p2pmodel.errors import ConfigError, SourceError
from p2pmodel.limits import ANSWERS_AT_ONCE_MAX, DATA_IDLE_S, PEER_EXCHANGE_S, PEERS_PER_MESSAGE_MAX, SOURCES_REMEMBERED_MAX
from p2pmodel.network import Address, ByteStream, Candidate, Network
from p2pmodel.network import Listener as NetworkListener
from p2pmodel.peering import remembered
from p2pmodel.peering.alone import NoSource
from p2pmodel.peering.catching_up import CatchingUp
from p2pmodel.peering.connection import Connection
from p2pmodel.peering.denials import Denials, Denying
from p2pmodel.peering.dialler import Dialler
from p2pmodel.peering.directory import Directory
from p2pmodel.peering.inventories import Inventories
from p2pmodel.peering.link import Attention, Link, Question
from p2pmodel.peering.links import Links, Neighbour
from p2pmodel.peering.listener import Listener, Reception
from p2pmodel.peering.other_versions import OtherVersions
from p2pmodel.peering.report import PeerReport, report_peers
from p2pmodel.peering.secure import Secure
from p2pmodel.peering.seeder import Seeder
from p2pmodel.peering.source import PeerSource
from p2pmodel.peering.statistics import PeeringStatistics
from p2pmodel.peering.subnets import OwnSubnets, on_this_machine
from p2pmodel.peering.tickets import Tickets
from p2pmodel.wire.messages import (
    PROTOCOL_VERSION,
    PROTOCOL_VERSION_MIN,
    AskDenyList,
    AskPrivate,
    AskTicket,
    Hello,
    Message,
    PeerAddress,
    Peers,
    Ping,
    Problem,
    Ticket,
)

log = structlog.get_logger()


class Place(Protocol):
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


class PeeringSettings(Protocol):
    """What the user can say about links (`p2pmodel.settings.PeeringSettings`)."""

    @property
    def listen(self) -> Place: ...
    @property
    def advertise(self) -> Place | None:
        """What to tell others, where it is not what they see."""

    @property
    def plain_data(self) -> Literal["public", "never"]:
        """Which chunks may travel outside TLS."""

    @property
    def peers(self) -> Sequence[Place]:
        """Whom to dial besides those whom discovery finds; they may be anywhere."""


class Peering:
    """`closed` says that TLS keeps strangers out: then peers may be anywhere, and count by id instead of by address.

    `inventory` tells where our own stands; `dice` must be unpredictable outside a simulation (`random.SystemRandom()`).
    Without a `state_dir` no peer is remembered. `upload` paces the chunks that we send. `discovery_s` is how long discovery
    takes to find those who are there. In a hardened cluster `judge` knows whom its authority denies.
    """

    def __init__(
        self,
        settings: PeeringSettings,
        *,
        node: NodeId,
        boot: bytes,
        closed: bool,
        network: Network,
        secure: Secure,
        inventory: Callable[[], tuple[int, bytes]],
        blocking: Blocking,
        dice: random.Random,
        state_dir: Path | None = None,
        abilities: Sequence[str] = (),
        near: Callable[[str], bool] | None = None,
        upload: Pace | None = None,
        discovery_s: float = 0.0,
        judge: Denying | None = None,
    ) -> None:
        self.statistics = PeeringStatistics()
        self.inventories = Inventories()
        self.other_versions = OtherVersions()
        self.port = 0  # once it listens
        self._settings = settings
        self._node = node
        self._boot = boot
        self._closed = closed
        self._abilities = abilities
        self._network = network
        self._secure = secure
        self._blocking = blocking
        self._dice = dice
        self._file = state_dir / "peers.json" if state_dir else None
        self._near = near or OwnSubnets()
        self._plain = settings.plain_data == "public"
        self._upload = upload or Pace()
        self._static_hosts = {peer.host for peer in settings.peers}
        self._links = Links(closed=closed)
        self._directory = Directory(own=node, near=lambda host: closed or self._near(host), dice=dice)
        self._dialler = Dialler(
            own=node,
            directory=self._directory,
            links=self._links,
            network=network,
            secure=secure,
            hello=self._hello,
            live=self._dialled_link,
            statistics=self.statistics,
            other_version=self.other_versions.met,
        )
        self._tickets = Tickets(dice)
        self._answering = trio.CapacityLimiter(ANSWERS_AT_ONCE_MAX)
        self._catching_up = CatchingUp(self.inventories)
        self._doors = trio.CancelScope()
        self._discovery_s = discovery_s
        self._met_at = 0.0
        self._outcasts: set[NodeId] = set()  # whose links were cut; as many as there are certificates
        self._spoilt: set[NodeId] = set()  # on whose plain connections wrong bytes came
        self._denials = Denials(judge)
        self._attention = Attention(self._heard, self._quiet, self._answer, inventory, self._denials.number, self.statistics)
        self._events: PeerEvents
        self._seeder: Seeder

    # Neighbours

    def linked(self) -> Sequence[NodeId]:
        return self._links.nodes()

    def weight(self, peer: NodeId) -> str:
        neighbour = self._links.find(peer)
        if self._closed or neighbour is None:
            return peer
        link = neighbour.link
        return _address_weight(link.connection.stream.remote.host, link.address.port)

    def hold(self, blob: BlobId) -> bool:
        return self.inventories.whole(blob)

    def own_weight(self) -> str:
        host = self._links.own_host()
        return self._node if self._closed or host is None else _address_weight(host, self._advertised_port())

    def met_at(self) -> float:
        return self._met_at

    def able(self, peer: NodeId, ability: str) -> bool:
        neighbour = self._links.find(peer)
        return neighbour is not None and ability in neighbour.link.connection.session.abilities

    def cluster(self, peer: NodeId) -> bytes:
        neighbour = self._links.find(peer)
        return neighbour.link.connection.stream.cluster if neighbour else b""

    def address(self, peer: NodeId) -> str:
        neighbour = self._links.find(peer)
        return str(neighbour.link.address) if neighbour else ""

    def send(self, peer: NodeId, message: Message) -> None:
        if neighbour := self._links.find(peer):
            neighbour.link.send(message)

    async def ask(self, peer: NodeId, question: Message) -> Sequence[Message]:
        neighbour = self._links.find(peer)
        if neighbour is None:
            raise SourceError("there is no link to this peer")
        assert isinstance(question, Question)
        return await neighbour.link.ask(question)

    def source(self, peer: NodeId) -> Source:
        neighbour = self._links.find(peer)
        return neighbour.source if neighbour else NoSource()

    # What doors and discovery ask

    def heard(self, candidate: Candidate) -> None:
        """A hint from discovery."""
        self._directory.heard(candidate, trio.current_time())
        self._dialler.stir()

    def peers(self) -> list[PeerReport]:
        """Linked peers and candidates."""
        return report_peers(self._links, self._directory.entries(), self.inventories)

    def peers_by_state(self) -> Counter[str]:
        return Counter(report.state for report in self.peers())

    def holders(self, blob: BlobId) -> dict[NodeId, int]:
        """Which linked peers hold a blob: 1 in part, 2 sealed."""
        return self.inventories.holders(blob)

    # Life

    async def run(self, events: PeerEvents, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. Starts with the bound port; raises ConfigError if that cannot be had."""
        self._events = events
        self._met_at = trio.current_time() + self._discovery_s
        self._seeder = Seeder(
            events, self.statistics, self._upload, linked=self._links.__contains__, outcast=self._outcasts.__contains__
        )
        await self._recall()
        listener = await self._listen()
        self.port = listener.port
        async with AsyncExitStack() as closing, trio.open_nursery() as nursery:
            closing.push_async_callback(listener.aclose)
            nursery.start_soon(self._keep_doors_open, listener, nursery)
            nursery.start_soon(self._exchange_peers)
            nursery.start_soon(self._expire_connections)
            if self._file:
                nursery.start_soon(remembered.keep, self._file, self._directory.to_remember, self._blocking)
            log.info("peering.listening", port=self.port)
            task_status.started(self.port)

    def close_doors(self) -> None:
        """Accept and dial no more; the links live on until `run` is cancelled."""
        self._doors.cancel()

    def cut_untrusted(self, trusts: Callable[[ByteStream], bool]) -> None:
        """End the links with those who would not be let in any more."""
        for each in self._links:
            if not trusts(each.link.connection.stream):
                each.link.cut("untrusted")
                self._outcasts.add(each.link.peer)

    async def _listen(self) -> NetworkListener:
        where = self._settings.listen
        try:
            return await self._network.listen(where.host, where.port)
        except OSError as error:
            raise ConfigError(
                f"Cannot listen for peers at {where}: {error.strerror or error}.",
                next_step="Choose another peering.listen, or stop what uses this one.",
            ) from error

    async def _keep_doors_open(self, listener: NetworkListener, nursery: trio.Nursery) -> None:
        reception = Reception(
            admits=self._admits,
            knows=self._links.at,
            hello=self._hello,
            spend=self._spend,
            link=self._accepted_link,
            seed=self._seed,
            other_version=self.other_versions.met,
        )
        door = Listener(secure=self._secure, plain=self._plain, reception=reception, statistics=self.statistics)
        with self._doors:
            async with trio.open_nursery() as doors:
                doors.start_soon(listener.serve, door.handle, nursery)
                doors.start_soon(self._dialler.run, nursery)

    async def _exchange_peers(self) -> None:
        while True:
            await trio.sleep(PEER_EXCHANGE_S)
            for each in self._links:
                each.link.send(self._peers_for(each.link))

    async def _expire_connections(self) -> None:
        while True:
            await trio.sleep(DATA_IDLE_S / 2)
            for each in self._links:
                await each.source.expire(trio.current_time())

    # Memory

    async def _recall(self) -> None:
        now = trio.current_time()
        for peer in self._settings.peers:
            self._directory.heard(Candidate(Address(peer.host, peer.port), None, "static"), now)
        for candidate in await self._blocking(remembered.load, self._file) if self._file else ():
            self._directory.heard(candidate, now)

    # Links

    def _hello(self) -> Hello:
        return Hello(
            version=PROTOCOL_VERSION,
            version_min=PROTOCOL_VERSION_MIN,
            abilities=list(self._abilities),
            boot=self._boot,
            port=self._advertised_port(),
        )

    def _advertised_port(self) -> int:
        return self._settings.advertise.port if self._settings.advertise else self.port

    def _admits(self, host: str) -> bool:
        return self._closed or host in self._static_hosts | self._dialler.static_hosts or self._near(host)

    async def _dialled_link(self, connection: Connection, peer: NodeId, hello: Hello, address: Address) -> None:
        await self._live(connection, peer, hello, address, dialler=self._node)

    async def _accepted_link(self, connection: Connection, peer: NodeId, hello: Hello) -> None:
        if peer == self._node:
            return
        address = Address(connection.stream.remote.host, hello.port)
        self._directory.met(address, peer, trio.current_time())
        await self._live(connection, peer, hello, address, dialler=peer)

    async def _live(self, connection: Connection, peer: NodeId, hello: Hello, address: Address, *, dialler: NodeId) -> None:
        """A link from its beginning to its end."""
        link = Link(connection, peer=peer, address=address, hello=hello, dialler=dialler, attention=self._attention)
        if refusal := self._links.refusal(link):
            self.statistics.refused += refusal != "duplicate"
            await connection.aclose(refusal)
            return
        source = PeerSource(
            link,
            network=self._network,
            secure=self._secure,
            plain=self._plain and peer not in self._spoilt,
            statistics=self.statistics,
            on_spoilt=self._spoil,
        )
        neighbour = Neighbour(link, source)
        self._appear(neighbour)
        try:
            await link.run()
        finally:
            self._vanish(neighbour)
            await source.aclose()

    def _spoil(self, peer: NodeId) -> None:
        if len(self._spoilt) >= SOURCES_REMEMBERED_MAX:
            self._spoilt.clear()
        self._spoilt.add(peer)

    def _appear(self, neighbour: Neighbour) -> None:
        link = neighbour.link
        if old := self._links.put(neighbour):
            old.link.cut("replaced")
            self._events.unlinked(link.peer)
        self._outcasts.discard(link.peer)
        log.info("link.up", peer=link.peer, address=str(link.address))
        link.send(self._peers_for(link))
        self._events.linked(link.peer)

    def _vanish(self, neighbour: Neighbour) -> None:
        if not self._links.remove(neighbour):
            return  # another link has taken its place
        link, now = neighbour.link, trio.current_time()
        log.info("link.down", peer=link.peer, reason=link.ended)
        self.inventories.forget(link.peer)
        self._directory.lost(link.peer, now - link.since, now)
        self._dialler.stir()
        self._events.unlinked(link.peer)

    def _peers_for(self, link: Link) -> Peers:
        """Addresses as we see them: a name or a link-local scope that we were configured with means nothing elsewhere."""
        others = [(each.link, each.link.connection.stream.remote.host) for each in self._links if each.link is not link]
        known = [
            PeerAddress(node=other.peer, host=host, port=other.address.port)
            for other, host in others
            if other.address.port and "%" not in host
        ]
        return Peers(nodes=self._dice.sample(known, min(len(known), PEERS_PER_MESSAGE_MAX)))

    # What peers say

    def _heard(self, link: Link, message: Message) -> None:
        if isinstance(message, Peers):
            for each in message.nodes:
                self.heard(Candidate(Address(each.host, each.port), NodeId(each.node), "exchange"))
        elif isinstance(message, Ping):
            self._denials.heard(link, message.deny_list)
            self._catching_up.heard(link, message.sequence)
        else:
            self._events.received(link.peer, message)

    def _quiet(self, link: Link) -> None:
        self._events.quiet(link.peer, quiet=link.quiet)

    async def _answer(self, link: Link, question: Question) -> Sequence[Message]:
        if isinstance(question, AskPrivate):  # its answer is small, and waits on purpose
            return await self._events.answer(link.peer, question)
        if isinstance(question, AskDenyList):
            return self._denials.answer(question)
        if not isinstance(question, AskTicket):
            async with self._answering:
                return await self._events.answer(link.peer, question)
        ticket = self._tickets.issue(link.peer, trio.current_time())
        if ticket is None:
            return [Problem(request=question.request, code="busy")]
        return [Ticket(request=question.request, ticket=ticket, plain=self._plain)]

    def _spend(self, ticket: bytes) -> NodeId | None:
        return self._tickets.spend(ticket, trio.current_time())

    async def _seed(self, connection: Connection, peer: NodeId) -> None:
        neighbour = self._links.find(peer)
        if neighbour is not None:  # else it has left since it asked for the ticket
            await self._seeder.seed(connection, peer, neighbour.link.traffic)


def _address_weight(host: str, port: int) -> str:
    """An address counts once however many daemons it runs, except on loopback, where only our own machine's can be."""
    return str(Address(host, port)) if on_this_machine(host) else host
