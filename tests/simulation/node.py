"""A whole node: delivery, peering and wire as they are in the daemon, on a simulated network and a store in memory."""

import random
from collections import Counter

import trio
from fakes.hub import MemoryUpstreams
from fakes.node import Desk, inline, surroundings
from simulation.lies import Events, Lies
from simulation.plan import key_of
from simulation.secure import PlainSecure

from p2pmodel.content.naming import node_id_of
from p2pmodel.delivery import Delivery
from p2pmodel.delivery.court import ATTEST
from p2pmodel.delivery.piece_lists import PIECES
from p2pmodel.delivery.vouching import VOUCHER
from p2pmodel.network import Address, Candidate
from p2pmodel.peering import Peering
from p2pmodel.settings import PeeringSettings
from p2pmodel.store import MemoryStore
from p2pmodel.swarm import HUB

PORT = 7277


class Asked:
    """A `FlightRecorder`: the bytes that a node had of the hub, by what it asked for them for."""

    def __init__(self):
        self.bytes = Counter()

    def record(self, flight):
        if flight.source == HUB:
            self.bytes[flight.reason] += flight.bytes


_DISK_VERBS = {"open", "read", "write", "commit", "finish", "materialise"}


class Node(Desk):
    """`host` is its address and its name in the trace. A boot is one life of its daemon; the store outlives it."""

    def __init__(self, number, world):
        self.number = number
        self.host = f"10.0.0.{number + 1}"
        self.world = world
        self.cable = world.network.host(self.host, rate=world.plan.lan_rate)
        self.store = MemoryStore()
        self.lies = Lies()
        self.asked = Asked()
        self.upstreams = WatchedUpstreams(world, self)
        self.key = key_of(number)
        self.id = node_id_of(self.key.public_key().public_bytes_raw())
        self.boots = 0
        self._standings = []
        self.delivery = self.peering = self.around = self.scope = None
        self._may_start = trio.Event()
        self._may_start.set()
        self._ended = trio.Event()

    def __repr__(self):
        return self.host

    @property
    def up(self):
        return self.delivery is not None

    async def run(self, serve):
        """Boot after boot, until cancelled; `serve(node)` is what its clients do in each."""
        while True:
            await self._may_start.wait()
            self._ended = trio.Event()
            try:
                await self._boot(serve)
            finally:
                self.delivery = None
                self._ended.set()

    async def crash(self):
        """The process is killed: no goodbye, no last commit; what was not committed is gone."""
        self.world.trace("crash", self)
        self._may_start = trio.Event()
        self.store.failing = set(_DISK_VERBS)  # what still unwinds cannot write
        self.world.network.kill(self.host)
        self.scope.cancel()
        await self._ended.wait()
        self.store.crash()
        self.store.failing = set()

    def restart(self):
        self._may_start.set()

    async def _boot(self, serve):
        self.boots += 1
        plan, boot = self.world.plan, bytes([self.boots]) * 8
        self.world.trace("boot", self)
        self.peering = Peering(
            PeeringSettings(),
            abilities=(ATTEST, PIECES, VOUCHER) if plan.rooted else (ATTEST, VOUCHER),
            node=self.id,
            boot=boot,
            closed=plan.closed,
            network=self.cable,
            secure=PlainSecure(self.id),
            inventory=self.store.inventory,
            blocking=inline,
            dice=random.Random(f"{plan.seed} {self.host} {self.boots} peering"),
            near=lambda _host: True,
        )
        self.around = surroundings(
            store=self.store,
            upstreams=self.upstreams,
            neighbours=self.peering,
            seed=f"{plan.seed} {self.host} {self.boots} delivery",
            key=self.key,
            closed=plan.closed,
            vouchers=plan.vouchers,
            recorder=self.asked,
        )
        self._standings.append(self.around.standing)
        delivery = Delivery(self.around, boot=boot, access_allow_s=600.0, offline_grace_s=0.0)
        self.scope = trio.CancelScope()
        with self.scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(delivery.run)
                await nursery.start(self.peering.run, Events(delivery.seeding, self))
                self.delivery = delivery
                nursery.start_soon(serve, self)

    def say(self, peer, message):
        self.peering.send(peer, message)

    def bans(self):
        """Whom it banned, in any boot."""
        return [ban for standing in self._standings for ban in standing._bans.values()]

    # Discovery

    def hear_of(self, other):
        if self.up:
            self.peering.heard(Candidate(Address(other.host, PORT), other.id, "mdns"))


class WatchedUpstreams(MemoryUpstreams):
    """The way to the hub goes over the node's own cable, and what is asked stands in the trace."""

    def __init__(self, world, node):
        super().__init__(world.hub, carry=node.cable.downlink.carry)
        self._world, self._node = world, node

    async def _reach(self, verb):
        if verb != "file":  # the source tells more
            self._world.trace("hub", self._node, verb)
        await super()._reach(verb)

    def source(self, locations):
        return WatchedSource(super().source(locations), self._world.trace, self._node)


class WatchedSource:
    def __init__(self, source, trace, node):
        self._source = source
        self._trace, self._node = trace, node

    async def fetch(self, order, sink):
        self._trace("hub", self._node, order.blob.id.hex[:6], f"{order.first}+{order.count}")
        await self._source.fetch(order, sink)
