"""Nodes to try links between: real `Peering` objects, over loopback TCP and TLS or over memory streams and virtual time."""

import os
import random
import tempfile
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from noise import noise
from simulation.secure import PlainSecure

from p2pmodel.content import Blob, BlobId, chunk_count, chunk_digest, chunk_size, chunk_start
from p2pmodel.delivery.ports import Order, Span
from p2pmodel.errors import SourceError
from p2pmodel.limits import CHUNK_BYTES
from p2pmodel.network import Address, ByteStream, Candidate
from p2pmodel.peering import SECURE_FIRST_BYTE, Identity, Membership, Peering, TcpNetwork, TlsSecure
from p2pmodel.peering.connection import Connection
from p2pmodel.settings import HostPort, PeeringSettings
from p2pmodel.wire import Role, Secrecy, Session
from p2pmodel.wire.messages import AskTicket, Attach, Attached, Get, Hello, Ping, Pong, Problem, Ticket

BLOB_BYTES = 2 * CHUNK_BYTES + 12_345


class Events:
    """A delivery that remembers what it was told and serves one blob from a file."""

    def __init__(self, file=None, blob=None):
        self.file, self.blob = file, blob
        self.log = []
        self.pages = {}  # what to answer, by type of question
        self.seeded = []
        self.changed = trio.Event()

    def _note(self, *what):
        self.log.append(what)
        self.changed.set()
        self.changed = trio.Event()

    def linked(self, peer):
        self._note("linked", peer)

    def unlinked(self, peer):
        self._note("unlinked", peer)

    def quiet(self, peer, *, quiet):
        self._note("quiet" if quiet else "heard again", peer)

    def received(self, peer, message):
        self._note("received", peer, message)

    async def answer(self, peer, question):
        await trio.lowlevel.checkpoint()
        return self.pages.get(type(question), [Problem(request=question.request, code="not_held")])

    async def seed(self, peer, blob, index):
        await trio.lowlevel.checkpoint()
        if blob != self.blob:
            return None
        self.seeded.append(index)
        start, size = chunk_start(index), chunk_size(blob.size, index)
        return Span(self.file.fileno(), start, size, chunk_digest(os.pread(self.file.fileno(), size, start)))

    async def until(self, predicate, times=1):
        """Wait until so many logged events satisfy `predicate`."""
        while sum(map(predicate, self.log)) < times:
            await self.changed.wait()

    async def until_linked(self, times=1):
        await self.until(lambda each: each[0] == "linked", times)

    async def until_unlinked(self):
        await self.until(lambda each: each[0] == "unlinked")


class Taken:
    """A sink that keeps what arrives."""

    def __init__(self):
        self.chunks = {}
        self.plain = []  # how each came
        self.pieces = 0
        self.on_progress = lambda: None
        self.on_arrived = None

    @asynccontextmanager
    async def buffer(self):
        await trio.lowlevel.checkpoint()
        yield memoryview(bytearray(CHUNK_BYTES))

    async def allow(self, count):
        await trio.lowlevel.checkpoint()
        return -(-count // 2)

    def progress(self, received):
        self.pieces += received
        self.on_progress()

    async def arrived(self, index, data, digest, *, claimed, grade, word=b"", plain=False):
        await trio.lowlevel.checkpoint()
        self.plain.append(plain)
        assert digest == chunk_digest(data)
        if self.on_arrived:
            self.on_arrived(index)
        self.chunks[index] = (bytes(data), claimed)


class CountingTls(TlsSecure):
    """Real TLS that counts the connections it has dialled."""

    dialled = 0

    async def wrap_dialled(self, stream, under=b""):
        self.dialled += 1
        return await super().wrap_dialled(stream, under)


class Impostor:
    """A member whose chunks are what a test makes of them: a link by the book, then `misbehave(connection, get)`."""

    def __init__(self, misbehave):
        self.misbehave = misbehave
        self.identity = Identity.generate()
        self.secure = TlsSecure(Membership.open(self.identity))
        self.id = self.identity.node
        self.connections = 0

    async def run(self, task_status):
        listener = await TcpNetwork().listen("127.0.0.1", 0)
        self.address = Address("127.0.0.1", listener.port)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listener.serve, self.handle, nursery)
            task_status.started()

    async def handle(self, stream):
        try:
            if await stream.peek() == SECURE_FIRST_BYTE:
                await self.link(stream)
            else:
                self.connections += 1
                connection = Connection(stream, Session(Role.LISTENER, Secrecy.PLAIN))
                await connection.expect(Attach)
                await connection.send(Attached())
                await self.misbehave(connection, await connection.expect(Get))
        except (SourceError, trio.BrokenResourceError):
            pass

    async def link(self, stream):
        stream, _ = await self.secure.wrap_accepted(stream)
        connection = Connection(stream, Session(Role.LISTENER))
        await connection.send(Hello(version=1, version_min=1, boot=bytes(8), port=self.address.port))
        while True:
            message = await connection.listen()
            if isinstance(message, Ping):
                await connection.send(Pong(nonce=message.nonce))
            elif isinstance(message, AskTicket):
                await connection.send(Ticket(request=message.request, ticket=bytes(16), plain=True))


class MemoryStream(ByteStream):
    """One end of a pipe in memory, with the two verbs more."""

    def __init__(self, inner, local, remote):
        self.inner, self._local, self._remote = inner, local, remote
        self._ahead = b""
        self.stalled = False  # sends wait for ever

    @property
    def local(self):
        return self._local

    @property
    def remote(self):
        return self._remote

    async def peek(self):
        self._ahead = self._ahead or await self.inner.receive_some(1)
        return self._ahead[:1]

    async def receive_some(self, max_bytes=None):
        if self._ahead:
            data, self._ahead = self._ahead, b""
            return data
        return await self.inner.receive_some(max_bytes)

    async def send_all(self, data):
        if self.stalled:
            await trio.sleep_forever()
        await self.inner.send_all(bytes(data))

    async def wait_send_all_might_not_block(self):
        await self.inner.wait_send_all_might_not_block()

    async def aclose(self):
        await self.inner.aclose()


class MemoryNetwork:
    """Every node is a host of its own; ports as asked."""

    def __init__(self):
        self.listening = {}
        self.streams = []
        self.dials = []

    def at(self, host):
        return MemoryHost(self, host)

    def stall(self):
        """From now on nothing that is sent arrives."""
        for stream in self.streams:
            stream.stalled = True


class MemoryHost:
    def __init__(self, network, host):
        self.network, self.host = network, host

    async def dial(self, address):
        await trio.lowlevel.checkpoint()
        self.network.dials.append((trio.current_time(), self.host, address))
        accept = self.network.listening.get(address)
        if accept is None:
            raise OSError(111, "Connection refused")
        ours, theirs = trio.testing.memory_stream_pair()
        port = 40_000 + len(self.network.streams)
        here = MemoryStream(ours, Address(self.host, port), address)
        there = MemoryStream(theirs, address, Address(self.host, port))
        self.network.streams += [here, there]
        accept(there)
        return here

    async def listen(self, host, port):
        await trio.lowlevel.checkpoint()
        return MemoryListener(self.network, Address(self.host, port or 7277))


class MemoryListener:
    def __init__(self, network, address):
        self.network, self.address, self.port = network, address, address.port

    async def serve(self, handle, nursery):
        self.network.listening[self.address] = lambda stream: nursery.start_soon(handle, stream)
        try:
            await trio.sleep_forever()
        finally:
            del self.network.listening[self.address]

    async def aclose(self):
        await trio.lowlevel.checkpoint()


async def inline(function, *args):
    await trio.lowlevel.checkpoint()
    return function(*args)


class Node:
    """A `Peering` and the fake delivery behind it."""

    def __init__(self, peering, events, node):
        self.peering, self.events, self.id = peering, events, node
        self.inventory = (0, bytes(16))
        self.host = "127.0.0.1"
        self.scope = trio.CancelScope()

    @property
    def address(self):
        return Address(self.host, self.peering.port)

    def hear_of(self, other, *, name=None):
        """Who hears no name does not wait for the other to dial first."""
        self.peering.heard(Candidate(other.address, name, "mdns"))

    async def run(self, task_status):
        with self.scope:
            await self.peering.run(self.events, task_status=task_status)


@pytest.fixture
def blob_file():
    """A blob of three chunks in a file."""
    data = noise(7, BLOB_BYTES)
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        yield file, Blob(BlobId("sha256", "ab" * 32), BLOB_BYTES), data


@pytest.fixture
def sink():
    return Taken()


@pytest.fixture
async def impostor(nursery):
    async def make(misbehave):
        made = Impostor(misbehave)
        await nursery.start(made.run)
        return made

    return make


@pytest.fixture
def order(blob_file):
    _, blob, _ = blob_file
    return Order(blob, 0, chunk_count(blob.size))


@pytest.fixture
async def tcp_node(blob_file, nursery):
    """Makes nodes on loopback, with real TCP and TLS."""
    file, blob, _ = blob_file

    async def make(membership=Membership.open, *, start=True, identity=None, network=None, **settings):
        identity = identity or Identity.generate()
        member = membership(identity)
        peering = Peering(
            PeeringSettings(listen=HostPort("127.0.0.1", 0), **settings),
            node=identity.node,
            boot=os.urandom(8),
            closed=member.mode != "open",
            network=network or TcpNetwork(),
            secure=CountingTls(member),
            inventory=lambda: node.inventory,
            blocking=inline,
            dice=random.SystemRandom(),
        )
        node = Node(peering, Events(file, blob), identity.node)
        if start:
            await nursery.start(node.run)
        return node

    return make


@pytest.fixture
def memory_network():
    return MemoryNetwork()


@pytest.fixture
async def memory_node(blob_file, memory_network, nursery):
    """Makes nodes on hosts of their own, in virtual time. The first has the smallest id."""
    file, blob, _ = blob_file
    made = []

    async def make(
        *,
        near=lambda host: True,
        closed=True,
        state_dir=None,
        cluster=0,
        node=None,
        boot=None,
        upload=None,
        judge=None,
        **settings,
    ):
        number = len(made) + 1
        host = f"10.0.0.{number}"
        name = node or f"{number:040x}"
        peering = Peering(
            PeeringSettings(listen=HostPort("0.0.0.0", 7277), **settings),
            node=name,
            boot=boot or bytes([number]) * 8,
            closed=closed,
            network=memory_network.at(host),
            secure=PlainSecure(name, cluster),
            inventory=lambda: made_node.inventory,
            blocking=inline,
            dice=random.Random(number),
            state_dir=state_dir,
            near=near,
            upload=upload,
            judge=judge,
        )
        made_node = Node(peering, Events(file, blob), name)
        made_node.host = host
        made.append(made_node)
        await nursery.start(made_node.run)
        await trio.testing.wait_all_tasks_blocked()  # its door is open
        return made_node

    return make
