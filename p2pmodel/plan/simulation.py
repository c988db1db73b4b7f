"""A whole cluster in virtual time."""

from __future__ import annotations

import hashlib
from random import Random
from typing import Final

from p2pmodel.content import Blob, BlobId, NodeId
from p2pmodel.limits import CHUNK_BYTES
from p2pmodel.plan.clock import Clock
from p2pmodel.plan.flows import EqualShare, MaxMin, Pipe
from p2pmodel.plan.frames import FRAMES
from p2pmodel.plan.member import Member
from p2pmodel.plan.rings import Ring
from p2pmodel.plan.scenario import Outcome, Scenario

_PATIENCE: Final = 20.0  # × the lower bound, and a minute: who has not finished by then never will


class World:
    """What the members share: the clock, the pipes, the hub, the blob."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.clock = Clock()
        self.chunks = scenario.chunks
        self.unit = scenario.unit
        self.real_chunks = -(-scenario.size // CHUNK_BYTES)
        self.chunk_bytes = scenario.size / self.chunks
        self.blob = Blob(
            BlobId("sha256", hashlib.sha256(f"plan/{scenario.seed}".encode()).hexdigest()), self.chunks * CHUNK_BYTES
        )
        self.hub = Pipe(scenario.uplink)
        few = scenario.readers is not None and scenario.readers < scenario.nodes
        self.line_length = scenario.readers if few else None
        rng = Random(scenario.seed)  # noqa: S311  # the same seed, the same world
        names = [NodeId(rng.randbytes(20).hex()) for _ in range(scenario.nodes)]
        self.members = [
            Member(self, name, holder=number < scenario.holders, rng=Random(f"{scenario.seed}/{number}"))  # noqa: S311  # the same
            for number, name in enumerate(names)
        ]
        self.by_name = {member.node: member for member in self.members}
        pipes = [self.hub, *(pipe for member in self.members for pipe in (member.up, member.down))]
        self.flows = MaxMin(self.clock, pipes) if scenario.exact else EqualShare(self.clock)
        self._left = scenario.nodes - scenario.holders
        wished = scenario.neighbours
        if wished is None or wished >= scenario.nodes - 1:
            self._rings: list[Ring] = []
            self._link_all()
        else:
            self._rings = [Ring(number) for number in range(max(1, wished // 2))]
            self._link_on_rings()
        for member in self.members:
            if member.done_at is None:
                self.clock.at(rng.uniform(0.0, scenario.stagger_s), member.start)

    def rank(self, member: Member) -> bytes:
        """By rendezvous: a node's place in the line for this blob, the smallest first."""
        return hashlib.blake2b(f"{self.blob.id}/{member.node}".encode(), digest_size=8).digest()

    def connect(self, one: Member, other: Member) -> None:
        if one is not other:
            one.link(other)
            other.link(one)

    def _link_all(self) -> None:
        for number, one in enumerate(self.members):
            for other in self.members[:number]:
                self.connect(one, other)

    def _link_on_rings(self) -> None:
        """Those that are there from the beginning: each has one neighbour on either side of it on each ring."""
        for ring in self._rings:
            ring.enter_all(member for member in self.members if member.done_at is not None or not self.scenario.stagger_s)
            for one, other in ring.pairs():
                self.connect(one, other)

    def enter(self, member: Member) -> None:
        """One that comes later links with those beside it. How it finds them is another matter: small clusters are linked all
        with all, large ones need a meeting point."""
        for ring in self._rings:
            for other in ring.enter(member):
                self.connect(member, other)

    def member_done(self) -> None:
        self._left -= 1

    def run(self) -> Outcome:
        until = self.scenario.stagger_s + 60 + _PATIENCE * self.scenario.bound_s
        self.clock.run(until, over=lambda: not self._left)
        return self._outcome()

    def _outcome(self) -> Outcome:
        scenario, members = self.scenario, self.members
        done = [member.done_at for member in members[scenario.holders :] if member.done_at is not None]
        last = max(done, default=self.clock.now) if not self._left else self.clock.now
        control = [member.telling.sent + FRAMES.presence(len(member.neighbours), last) for member in members]
        spent = last or 1.0
        return Outcome(
            scenario=scenario,
            finished=len(done) + scenario.holders,
            first_s=min(done, default=last),
            mean_s=sum(done) / max(1, len(done)),
            last_s=last,
            hub_bytes=self.hub.carried,
            control_bytes=sum(control) / len(control),
            control_bytes_most=max(control),
            neighbours=sum(len(member.neighbours) for member in members) / len(members),
            readers=sum(1 for member in members if member.hub_orders),
            hub_orders=sum(member.hub_orders for member in members),
            twice=sum(member.twice for member in members),
            hub_busy=self.hub.carried / scenario.uplink / spent,
            up_busy=max(member.up.carried for member in members) / scenario.link / spent,
            down_busy=max(member.down.carried for member in members) / scenario.link / spent,
            events=self.clock.events,
            trace=hashlib.sha256(repr(done).encode()).hexdigest()[:16],
        )


def simulate(scenario: Scenario) -> Outcome:
    """The same scenario gives the same outcome."""
    return World(scenario).run()
