"""A whole delivery room on fakes: what the unit tests drive and the simulation multiplies."""

import os
import random
from contextlib import AsyncExitStack, asynccontextmanager

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fakes.hub import NOBODY, REPO, MemoryUpstreams
from fakes.neighbours import Lan, MemoryNeighbours
from p2pmodel.delivery import Buffers, Delivery
from p2pmodel.delivery.ports import NOWHERE, Selection, Sharing, Surroundings
from p2pmodel.delivery.recorder import Unrecorded
from p2pmodel.store import MemoryStore
from p2pmodel.swarm import Standing

EVERYTHING = Selection()
NOTHING = Sharing()


async def inline(function, *args):
    """The blocking seam of a simulation: a real thread would stop virtual time from making sense."""
    await trio.lowlevel.checkpoint()
    return function(*args)


def surroundings(
    *, store, upstreams, neighbours, seed, key, closed=False, recorder=None, sharing=NOTHING, vouchers=0, circle=lambda: NOWHERE
):
    return Surroundings(
        store=store,
        upstreams=upstreams,
        neighbours=neighbours,
        blocking=inline,
        buffers=Buffers(),
        standing=Standing(),
        rng=random.Random(seed),
        key=key,
        closed=closed,
        sharing=sharing,
        vouchers=vouchers,
        circle=circle,
        recorder=recorder or Unrecorded(),
    )


def key_of(name):
    return Ed25519PrivateKey.from_private_bytes(random.Random(name).randbytes(32))


class Desk:
    """What the doors ask of a node: `delivery` and `store` are its rooms."""

    async def fetch(self, repo=REPO, revision="main", access=NOBODY, selection=EVERYTHING):
        """Bring a snapshot here; the last progress report."""
        async with self.delivery.fetch(repo, revision, selection, access) as reports:
            last = None
            async for report in reports:
                last = report
            return last

    async def read(self, path, start=0, stop=None, repo=REPO, revision="main", access=NOBODY):
        """The bytes that a client would get, and where from."""
        snapshot, entry = await self.delivery.entry(repo, revision, path, access)
        stop = entry.size if stop is None else stop
        pieces = []
        async with self.delivery.read(snapshot, entry, start, stop, access) as reader:
            await reader.ready()
            while (span := await reader.next_span()) is not None:
                with span:
                    pieces.append(os.pread(span.fd, span.length, span.offset))
            return b"".join(pieces), reader.sources

    def bytes_of(self, blob):
        """What the store holds of a sealed blob, None if it is not sealed."""
        state = self.store.find(blob.id)
        if state is None or not state.sealed:
            return None
        stored = self.store.open(state.blob, private=state.private)
        try:
            return os.pread(stored.fileno(), blob.size, 0)
        finally:
            stored.close()


class Node(Desk):
    def __init__(self, name, lan, hub, *, seed=0, store=None, closed=False, recorder=None, sharing="off", grace_s=0.0, **more):
        self.name = name
        self.lan = lan
        self.upstreams = MemoryUpstreams(hub)
        self.store = store or MemoryStore()
        self.around = surroundings(
            store=self.store,
            upstreams=self.upstreams,
            neighbours=MemoryNeighbours(lan, name),
            seed=f"{seed}/{name}",
            key=more.pop("key", None) or key_of(name),
            closed=closed,
            sharing=Sharing(sharing, name, lambda: {b"": b"k" * 32}, 600.0),
            recorder=recorder,
            **more,
        )
        self.delivery = Delivery(self.around, boot=name.encode().ljust(8)[:8], access_allow_s=600.0, offline_grace_s=grace_s)

    @asynccontextmanager
    async def running(self, nursery):
        """Delivery at work and on the LAN; leaving it is a kill: nothing is said to anybody."""
        scope = trio.CancelScope()

        async def run(task_status):
            with scope:
                await self.delivery.run(task_status)

        await nursery.start(run)
        self.lan.join(self.name, self.delivery.seeding, nursery)
        try:
            yield self
        finally:
            if self.name not in self.lan.cut:
                self.lan.drop(self.name)
            del self.lan.nodes[self.name]
            self.lan.cut.discard(self.name)
            scope.cancel()


@asynccontextmanager
async def together(*nodes):
    async with trio.open_nursery() as nursery:
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(node.running(nursery)) for node in nodes]
        nursery.cancel_scope.cancel()


def cluster(hub, *names, lan=None, **options):
    """Nodes of these names, running on one LAN; `options` are those of each `Node`."""
    lan = lan or Lan()
    return together(*[Node(name, lan, hub, **options) for name in names])
