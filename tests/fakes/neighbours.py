"""Peers without a wire: messages of one node reach the other's `PeerEvents` after a delay, chunks come out of its store."""

import os
from collections import deque

import trio

from p2pmodel.content import Grade, chunk_digest
from p2pmodel.errors import NotHeldError, ShortAnswerError, SourceBusyError, SourceError
from p2pmodel.wire.messages import Problem


class Lan:
    """Who is linked to whom. `liars` flip a byte of each chunk they send (and claim the digest of what they send)."""

    def __init__(self, delay=0.001, rate=0.0):
        self.delay = delay
        self.rate = rate  # bytes/s that each node can send
        self.nodes = {}
        self.cut = set()  # nodes off the LAN
        self.liars = set()
        self.flippers = set()  # nodes whose bytes do not have the digest that they claim
        self.addresses = {}  # of nodes that are not at their own
        self.tapped = {}  # node → how many chunks somebody on the wire changes yet: they come on plain connections
        self.mute = set()  # nodes that do not answer questions (so their lies are not held against their own seals)
        self.silent = set()  # nodes that take orders and never answer
        self.unable = {}  # node → abilities that it lacks
        self.sent = {}  # bytes by node
        self.free_at = {}
        self._delivering = False
        self._post = deque()  # messages under way: when due, from whom, to whom, what

    def reach(self, here, there):
        return here in self.nodes and there in self.nodes and not {here, there} & self.cut

    def join(self, node, events, nursery):
        self.nodes[node] = events
        for other in list(self.nodes):
            if other != node and self.reach(node, other):
                self.nodes[other].linked(node)
                events.linked(other)
        self.nursery = nursery

    def drop(self, node):
        """The node's links break; it is not told (it may be dead)."""
        self.cut.add(node)
        for other, events in self.nodes.items():
            if other != node and other not in self.cut:
                events.unlinked(node)
                self.nodes[node].unlinked(other)

    def heal(self, node):
        self.cut.discard(node)
        for other, events in self.nodes.items():
            if other != node and other not in self.cut:
                events.linked(node)
                self.nodes[node].linked(other)

    def post(self, sender, receiver, message):
        """In order, and all by one task: twenty nodes that all talk would else be thousands of tasks."""
        self._post.append((trio.current_time() + self.delay, sender, receiver, message))
        if not self._delivering:
            self._delivering = True
            self.nursery.start_soon(self._deliver)

    async def _deliver(self):
        try:
            while self._post:
                due, sender, receiver, message = self._post.popleft()
                if due > trio.current_time():
                    await trio.sleep_until(due)
                if self.reach(sender, receiver):
                    self.nodes[receiver].received(sender, message)
        finally:
            self._delivering = False

    async def carry(self, sender, count):
        self.sent[sender] = self.sent.get(sender, 0) + count
        if self.rate:
            begin = max(self.free_at.get(sender, 0.0), trio.current_time())
            self.free_at[sender] = begin + count / self.rate
            await trio.sleep_until(self.free_at[sender])
        else:
            await trio.lowlevel.checkpoint()


class MemoryNeighbours:
    """One node's `Neighbours`."""

    def __init__(self, lan, node):
        self.lan = lan
        self.node = node

    def linked(self):
        return [other for other in self.lan.nodes if other != self.node and self.lan.reach(self.node, other)]

    def weight(self, peer):
        return peer

    def hold(self, blob):
        return False

    def own_weight(self):
        return self.node

    def met_at(self):
        return 0.0

    def able(self, peer, ability):
        return ability not in self.lan.unable.get(peer, ())

    def cluster(self, peer):
        return b""

    def address(self, peer):
        return self.lan.addresses.get(peer, f"{peer}.lan")

    def send(self, peer, message):
        self.lan.post(self.node, peer, message)

    async def ask(self, peer, question):
        await trio.sleep(self.lan.delay)
        if not self.lan.reach(self.node, peer) or peer in self.lan.mute:
            raise SourceError("gone")
        pages = await self.lan.nodes[peer].answer(self.node, question)
        if isinstance(pages[0], Problem):
            raise SourceBusyError(pages[0].code)
        return pages

    def source(self, peer):
        return MemoryPeerSource(self.lan, self.node, peer)


class MemoryPeerSource:
    def __init__(self, lan, node, peer):
        self.lan, self.node, self.peer = lan, node, peer

    async def fetch(self, order, sink):
        for index in range(order.first, order.first + order.count):
            await trio.sleep(self.lan.delay)
            if self.peer in self.lan.silent:
                await trio.sleep(10)
                raise ShortAnswerError("no byte for 10 s")
            if not self.lan.reach(self.node, self.peer):
                raise ShortAnswerError("the link broke")
            span = await self.lan.nodes[self.peer].seed(self.node, order.blob, index)
            if span is None:
                raise NotHeldError("not held")
            with span:
                data = os.pread(span.fd, span.length, span.offset)
            await self._deliver(order, index, data, span, sink)

    async def _deliver(self, order, index, data, span, sink):
        digest, word = span.digest, span.word
        await self.lan.carry(self.peer, len(data))
        if not self.lan.reach(self.node, self.peer):
            raise ShortAnswerError("the link broke")
        if self.peer in self.lan.liars | self.lan.flippers:
            data = bytes([data[0] ^ 1]) + data[1:]
            if self.peer in self.lan.liars:
                digest, word = chunk_digest(data), b""
        async with sink.buffer() as buffer:
            buffer[: len(data)] = data
            left = len(data)
            while left:
                count = await sink.allow(left)
                sink.progress(count)
                left -= count
            plain = self.lan.tapped.get(self.peer, 0) > 0
            if plain:
                self.lan.tapped[self.peer] -= 1
                buffer[0] ^= 1
            taken = buffer[: len(data)]
            await sink.arrived(index, taken, chunk_digest(taken), claimed=digest, grade=Grade.SINGLE, word=word, plain=plain)
