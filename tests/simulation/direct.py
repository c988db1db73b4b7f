"""A node without a wire: delivery as it is in the daemon, but what it says reaches its peers as a call. Linking twenty nodes
costs seconds of CPU, and about lies neither links nor frames have a say: so worlds of liars are made of these."""

import trio
from fakes.hub import MemoryUpstreams
from fakes.neighbours import MemoryNeighbours
from fakes.node import Desk, surroundings
from simulation.lies import Events, Knowing, Lies, Noting
from simulation.node import Asked
from simulation.plan import key_of

from p2pmodel.content.naming import node_id_of
from p2pmodel.delivery import Delivery
from p2pmodel.store import MemoryStore


class Neighbours(MemoryNeighbours):
    def __init__(self, node):
        super().__init__(node.world.lan, node.id)
        self._of = node

    def source(self, peer):
        return PeerSource(self._of, super().source(peer))


class PeerSource:
    def __init__(self, node, source):
        self._node, self._source = node, source

    async def fetch(self, order, sink):
        await self._source.fetch(order, Knowing(sink, self._node, order.blob.id) if self._node.lies.conspires else sink)


class Upstreams(MemoryUpstreams):
    def __init__(self, node):
        super().__init__(node.world.hub)
        self._of = node

    def source(self, locations):
        return HubSource(self._of, super().source(locations))


class HubSource:
    def __init__(self, node, source):
        self._node, self._source = node, source

    async def fetch(self, order, sink):
        await self._source.fetch(order, Noting(sink, self._node, order.blob.id))


class DirectNode(Desk):
    up = True

    def __init__(self, number, world):
        self.number = number
        self.host = f"10.0.0.{number + 1}"
        self.world = world
        self.store = MemoryStore()
        self.lies = Lies()
        self.asked = Asked()
        self.key = key_of(number)
        self.id = node_id_of(self.key.public_key().public_bytes_raw())
        self.delivery = None
        self.neighbours = Neighbours(self)
        self.around = surroundings(
            store=self.store,
            upstreams=Upstreams(self),
            neighbours=self.neighbours,
            seed=f"{world.plan.seed} {self.host} delivery",
            key=self.key,
            closed=world.plan.closed,
            recorder=self.asked,
        )
        self.delivery = Delivery(self.around, boot=bytes([1]) * 8, access_allow_s=600.0, offline_grace_s=0.0)

    def __repr__(self):
        return self.host

    async def run(self, serve):
        async with trio.open_nursery() as nursery:
            await nursery.start(self.delivery.run)
            self.world.lan.join(self.id, Events(self.delivery.seeding, self), nursery)
            nursery.start_soon(serve, self)

    def say(self, peer, message):
        self.neighbours.send(peer, message)

    def bans(self):
        return list(self.around.standing._bans.values())
