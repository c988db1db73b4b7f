"""One node of the simulated cluster: the daemon's own `Swarm`, and around it lanes that behave as delivery's do.

What delivery does in tasks is done here in events. To re-check when delivery changes: `Download._lane`, `_work` and
`peer_linked`; `Seeding._interest`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final

from p2pmodel.content import ChunkMap, NodeId
from p2pmodel.limits import BUFFERS, CLAIM_REPEAT_S
from p2pmodel.plan.flows import Pipe
from p2pmodel.plan.frames import FRAMES
from p2pmodel.plan.line import Line, Place
from p2pmodel.plan.telling import Telling
from p2pmodel.plan.work import Work
from p2pmodel.swarm import CROSSING_S, HUB, HUB_STREAMS, Flight, Rates, Standing, Swarm

if TYPE_CHECKING:
    from p2pmodel.plan.simulation import World

_PROGRESS_S: Final = 0.5  # a daemon counts every piece, to the same effect
_POLL_S: Final = 0.5  # leases, turns and slow peers are looked at so often: a daemon does it to the moment
_SMALL_CHUNKS: Final = 16  # up to here one connection to the hub will do
_ORDER_CHUNKS: Final = 4  # of an order to a peer, mostly


class SharingSwarm(Swarm):
    """What one node tells many is unpacked once: runs come as a map."""

    def _map_of(self, runs: Iterable[tuple[int, int]]) -> ChunkMap:
        return runs.copy() if isinstance(runs, ChunkMap) else super()._map_of(runs)


class Member:
    def __init__(self, world: World, node: NodeId, *, holder: bool, rng: Random) -> None:
        self.world = world
        self.node = node
        self.held = ChunkMap.full(world.chunks) if holder else ChunkMap(world.chunks)
        self.own = ChunkMap(world.chunks)
        self.up = Pipe(world.scenario.link)
        self.down = Pipe(world.scenario.link)
        self.neighbours: dict[NodeId, Member] = {}
        self.telling = Telling(world, self)
        self.line = Line(world, self, world.line_length) if world.line_length else None
        self.started = False
        self.done_at: float | None = 0.0 if holder else None
        self.twice = 0
        self.hub_orders = 0
        self.buffers_free = BUFFERS
        self.waiting: deque[Work] = deque()  # for a buffer
        self._rng = rng
        self._swarm: SharingSwarm
        self._idle: dict[str, int] = {}  # lanes by source
        self._works: dict[int, Work] = {}
        self._open = ChunkMap(world.chunks)  # missing, and asked of nobody when we last looked
        self._deciding = False
        self._wake_at = 0.0

    @property
    def wants(self) -> bool:
        return self.started and self.done_at is None

    # Beginning

    def start(self) -> None:
        """The download begins: a swarm, lanes, interest told to all neighbours."""
        clock = self.world.clock
        self.started = True
        self._swarm = SharingSwarm(
            self.world.blob,
            held=self.held,
            own=self.own,
            own_weight=self.node,
            standing=Standing(),
            rates=Rates(),
            rng=self._rng,
            now=clock.now,
        )
        self._open = self.held.missing()
        if self.line is None:
            self.read()
        else:
            self.line.start()
        if self.world.scenario.stagger_s:
            self.world.enter(self)
        for other in self.neighbours.values():
            self._join(other)
        clock.after(CLAIM_REPEAT_S, self._repeat_claims)

    def read(self) -> None:
        """From now on this node takes its turns at the hub."""
        if HUB not in self._idle:
            self._idle[HUB] = HUB_STREAMS if self.world.real_chunks > _SMALL_CHUNKS else 1
            self.decide_soon()

    def link(self, other: Member) -> None:
        """This side of a new link."""
        if other.node not in self.neighbours:
            self.neighbours[other.node] = other
            if self.wants:
                self._join(other)

    def _join(self, other: Member) -> None:
        if other.node in self._swarm.availability.peers:
            return
        self._swarm.joined(other.node, other.node)
        self._idle[other.node] = 1
        self.telling.sent += FRAMES.interest
        self._later(partial(other.told_interest, self))

    def _later(self, do: partial[None]) -> None:
        """A message's way."""
        self.world.clock.after(self.world.scenario.delay_s, do)

    def _counts(self, other: Member) -> bool:
        """Whether another one takes turns at the hub."""
        return self.line is None or self.line.counts(other)

    def line_changed(self) -> None:
        for other in self.neighbours.values():
            self._swarm.wants(other.node, wanted=other.wants and self._counts(other))

    # What others tell

    def told_interest(self, other: Member) -> None:
        """Another one wants the blob, and to hear what we hold of it."""
        self.telling.watchers[other.node] = other
        self.telling.sent += FRAMES.have + self.world.real_chunks / 8
        self._later(partial(other.told_have, self, self.held.copy(), wanted=self.wants))
        if self.wants:
            if self.line is not None:
                self.line.meet(other)
            self._swarm.wants(other.node, wanted=self._counts(other))
            self.telling.sent += FRAMES.claims
            self._later(partial(other.told_claims, self, *self.claims()))

    def told_have(self, other: Member, chunks: ChunkMap, *, wanted: bool) -> None:
        if not self.wants:
            return
        if chunks.complete and self.line is not None:
            self.line.hear((), [other.node])
        counts = wanted and self._counts(other)
        self._swarm.has(other.node, chunks, sealed=chunks.complete, wanted=counts, now=self.world.clock.now)
        self.decide_soon()

    def told_complete(self, other: Member) -> None:
        self.telling.watchers.pop(other.node, None)
        self.told_have(other, other.held.copy(), wanted=False)

    def told_held(self, other: Member, chunks: list[int], news: ChunkMap) -> None:
        if self.wants:
            self._swarm.got(other.node, chunks, self.world.clock.now)
            self._give_way()
            if self._idle.get(other.node) and self._open & news:
                self.decide_soon()

    def told_given(self, other: Member, chunks: list[int]) -> None:
        if self.wants:
            self._swarm.gives(other.node, chunks)

    def told_claims(self, other: Member, runs: ChunkMap, coming: ChunkMap, firm: ChunkMap) -> None:
        if not self.wants:
            return
        before = self._swarm.availability.peers[other.node].claims
        self._swarm.claims(other.node, runs, coming, firm, self.world.clock.now)  # type: ignore[arg-type]  # see SharingSwarm
        self._give_way()
        if self._idle.get(HUB) and before - runs - other.held:
            self.decide_soon()

    def see_coming(self, other: Member, coming: ChunkMap) -> None:
        """What claims come to that name nothing from the hub; there are too many for a message's way each."""
        if self.wants and (view := self._swarm.availability.peers.get(other.node)) is not None:
            view.coming = coming

    def _give_way(self) -> None:
        for flight in self._swarm.overtaken(self.world.clock.now):
            self._works[flight.number].cancel()

    def told_line(self, first: list[Place], givers: list[NodeId]) -> None:
        if self.wants and self.line is not None:
            self.line.hear(first, givers)

    # Lanes

    def decide_soon(self) -> None:
        if not self._deciding:
            self._deciding = True
            self.world.clock.after(0.0, self._decide)

    def _decide(self) -> None:
        """Every idle lane asks the swarm for an order; only where it cannot say no for certain."""
        self._deciding = False
        if not self.wants:
            return
        now = self.world.clock.now
        for work in self._works.values():
            if now - work.flight.progress_at > _PROGRESS_S:
                self._tell_progress(work)
        self._open = self._swarm._open(now)  # noqa: SLF001  # what `next_order` itself will look at
        for source in self._idle_lanes():
            while self._idle[source] and self._may_give(source):
                flight = self._swarm.next_order(source, now)
                if flight is None:
                    break
                self._open = self._open - flight.left
                self._begin(source, flight)
        if self._idle.get(HUB) or self.waiting:
            self._wake(max(self._swarm.wake_at(now), now + _POLL_S))

    def _idle_lanes(self) -> list[str]:
        """Beginning elsewhere each time, as tasks wake."""
        idle = [source for source, count in self._idle.items() if count]
        start = int(self._rng.random() * len(idle))
        return idle[start:] + idle[:start]

    def _may_give(self, source: str) -> bool:
        if source == HUB:
            return self._counts(self)
        return bool(self._open & self._swarm.availability.peers[NodeId(source)].held)

    def _wake(self, when: float) -> None:
        if not self.world.clock.now < self._wake_at <= when:
            self._wake_at = when
            self.world.clock.at(when, partial(self._woken, when))

    def _woken(self, when: float) -> None:
        if self._wake_at == when:
            self._wake_at = 0.0
            self.decide_soon()

    def _begin(self, source: str, flight: Flight) -> None:
        self._idle[source] -= 1
        giver = None if source == HUB else self.neighbours[NodeId(source)]
        work = self._works[flight.number] = Work(self, flight, giver)
        scenario = self.world.scenario
        if giver is None:
            self.hub_orders += 1
            self.telling.claims()
            self.world.clock.after(scenario.hub_delay_s, work.go_on)
        else:
            self.telling.sent += FRAMES.get * max(1.0, self.world.unit * flight.count / _ORDER_CHUNKS)
            self.telling.ordered()
            giver.telling.gives(range(flight.first, flight.first + flight.count))
            self.world.clock.after(2 * scenario.delay_s, work.go_on)

    def order_ended(self, work: Work) -> None:
        del self._works[work.flight.number]
        if not self.wants:
            return
        self._tell_progress(work)
        self._swarm.ended(work.flight, self.world.clock.now)
        self._idle[work.flight.source] += 1
        self.telling.ordered()
        self.decide_soon()

    def _tell_progress(self, work: Work) -> None:
        received = round(work.received)
        if received > work.flight.received:
            self._swarm.progress(work.flight, received - work.flight.received, self.world.clock.now)

    def free_buffer(self) -> None:
        while self.waiting:
            work = self.waiting.popleft()
            if not work.over:
                work.begin_chunk()
                return
        self.buffers_free += 1

    def chunk_came(self, work: Work) -> None:
        chunk = work.chunk
        if work.giver is not None:
            work.giver.telling.sent += FRAMES.chunk * self.world.unit
        else:
            self.own.add(chunk)
        if chunk in self.held:
            self.twice += 1
            return
        self.held.add(chunk)
        self._swarm.arrived(chunk, hub=work.giver is None)
        self.telling.arrived(chunk, self.world.clock.now - work.since)
        if self.held.complete:
            self._complete()

    def _complete(self) -> None:
        self.done_at = self.world.clock.now
        self.world.member_done()
        for other in self.neighbours.values():
            self.telling.sent += FRAMES.have + self.world.real_chunks / 8 + FRAMES.interest
            self._later(partial(other.told_complete, self))
        for work in list(self._works.values()):
            work.cancel()

    def claims(self) -> tuple[ChunkMap, ChunkMap, ChunkMap]:
        """What comes from the hub, what from peers, and which of the hub's are firm."""
        ledger = self._swarm.ledger
        from_hub = ledger.pending(HUB)
        return from_hub, ledger.pending() - from_hub, ledger.pending_since(HUB, self.world.clock.now - CROSSING_S)

    def _repeat_claims(self) -> None:
        if self.wants:
            if any(work.giver is None and work.stream for work in self._works.values()):
                self.telling.claims()
            self.world.clock.after(CLAIM_REPEAT_S, self._repeat_claims)
