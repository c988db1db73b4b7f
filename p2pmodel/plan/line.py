"""Who reads a cold blob from the hub where a node knows only its neighbours.

Neighbours tell each other who is first in line, as far as they know, and of some who hold all of it; what is better travels
on, so that within some hops all know the same. Those who read already stand first, for what they have read is told to each
other; behind them rendezvous decides. The first in line link with each other and with the holders, and share the runs out
among themselves by the policy of small clusters; everybody else takes what comes from neighbours and leaves the hub alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import partial
from typing import TYPE_CHECKING, Final

from p2pmodel.content import NodeId
from p2pmodel.delivery.herald import BATCH_S
from p2pmodel.plan.frames import FRAMES

if TYPE_CHECKING:
    from p2pmodel.plan.member import Member
    from p2pmodel.plan.simulation import World

QUIET_S: Final = 0.5  # the first in line are known when nothing new has been heard for so long
GIVERS_MAX: Final = 4
_HANDSHAKE_DELAYS: Final = 6  # TCP, TLS, hello, interest and its answer, one way each

Place = tuple[bool, bytes, NodeId]  # not reading yet, then by rendezvous


class Line:
    def __init__(self, world: World, member: Member, length: int) -> None:
        self.first: list[Place] = []
        self.givers: list[NodeId] = []
        self._names: set[NodeId] = set()  # of the first
        self._world = world
        self._member = member
        self._length = length
        self._reading = False
        self._telling = False
        self._quiet_at = 0.0

    def counts(self, other: Member) -> bool:
        """Whether this node is one of those who read from the hub, as far as we know."""
        return other.node in self._names

    def start(self) -> None:
        self._hear_place()

    def meet(self, other: Member) -> None:
        """A neighbour that wants it too."""
        self._tell([other])

    def hear(self, first: Iterable[Place], givers: Iterable[NodeId] = ()) -> None:
        """What another one knows."""
        known = {node: (waits, hashed, node) for waits, hashed, node in sorted((*self.first, *first), reverse=True)}
        best = sorted(known.values())[: self._length]
        holding = sorted({*self.givers, *givers})[:GIVERS_MAX]
        if (best, holding) == (self.first, self.givers):
            return
        self.first, self.givers = best, holding
        self._names = {node for _, _, node in best}
        self._member.line_changed()
        if not self._reading:
            self._read_when_quiet()
        if not self._telling:
            self._telling = True
            self._world.clock.after(BATCH_S, self._tell_all)

    def _hear_place(self) -> None:
        self.hear([(not self._reading, self._world.rank(self._member), self._member.node)])

    def _tell_all(self) -> None:
        self._telling = False
        self._tell(self._member.neighbours.values())

    def _tell(self, others: Collection[Member]) -> None:
        self._member.telling.sent += len(others) * FRAMES.peer * (len(self.first) + len(self.givers))
        for other in others:
            self._world.clock.after(self._world.scenario.delay_s, partial(other.told_line, self.first, self.givers))

    def _read_when_quiet(self) -> None:
        clock = self._world.clock
        self._quiet_at = clock.now + QUIET_S
        clock.at(self._quiet_at, self._quiet)

    def _quiet(self) -> None:
        """If we are in line: link with the others and with who holds it, then read."""
        clock = self._world.clock
        if self._reading or clock.now < self._quiet_at or not self._member.wants or not self.counts(self._member):
            return
        for node in [*(node for _, _, node in self.first), *self.givers]:
            self._world.connect(self._member, self._world.by_name[node])
        self._reading = True
        self._hear_place()
        clock.after(_HANDSHAKE_DELAYS * self._world.scenario.delay_s, self._member.read)
