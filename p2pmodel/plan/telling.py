"""What a member tells those who watch it, batched as `Herald` does it, every frame counted."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Final

from p2pmodel.content import ChunkMap, NodeId
from p2pmodel.delivery.herald import BATCH_S
from p2pmodel.plan.frames import FRAMES, INDEX_BYTES, RUN_BYTES

if TYPE_CHECKING:
    from p2pmodel.plan.member import Member
    from p2pmodel.plan.simulation import World

_PER_CHUNK: Final = FRAMES.held + FRAMES.claims + RUN_BYTES  # of a chunk that is told alone: it is here, another is coming


class Telling:
    def __init__(self, world: World, member: Member) -> None:
        self.watchers: dict[NodeId, Member] = {}
        self.sent = 0.0  # bytes
        self._world = world
        self._member = member
        self._arrived: list[int] = []
        self._given = ChunkMap(world.chunks)
        self._giving: list[int] = []
        self._ordered = False
        self._claiming = False  # whether our last claims named chunks from the hub
        self._due = False
        self._free_at = 0.0

    def arrived(self, chunk: int, seconds: float) -> None:
        """A chunk came, in so many seconds. One that stands for many would have been told in many batches."""
        self._arrived.append(chunk)
        more = self._world.unit - 1
        if more > 0:
            self.sent += len(self.watchers) * (more * INDEX_BYTES + min(more, seconds / BATCH_S) * _PER_CHUNK)
        self._soon()

    def gives(self, chunks: Iterable[int]) -> None:
        """Somebody asked for these. A daemon tells of each when it is its turn, which for real chunks is almost as soon."""
        if self._member.held.complete and len(self.watchers) > 1:
            news = [chunk for chunk in chunks if chunk not in self._given]
            self._given = self._given | ChunkMap(self._world.chunks, news)
            self._giving += news
            self.sent += len(news) * len(self.watchers) * (self._world.unit - 1) * INDEX_BYTES
            self._soon()

    def ordered(self) -> None:
        """What we ask of peers changed; told with the next batch."""
        self._ordered = True
        self._soon()

    def claims(self) -> None:
        """What we read from the hub changed: told at once, behind what has come."""
        self._ordered = False
        self._tell_arrived()
        if not self.watchers:
            return
        runs, coming, firm = self._member.claims()
        size = FRAMES.claims + RUN_BYTES * sum(1 for part in (runs, coming, firm) for _ in part.runs())
        if runs or self._claiming:
            self._claiming = bool(runs)
            self._tell(size, partial(_tell_claims, self._member, runs, coming, firm))
        else:
            self.sent += size * len(self.watchers)
            for other in self.watchers.values():
                other.see_coming(self._member, coming)

    def _soon(self) -> None:
        if not self._due:
            self._due = True
            clock = self._world.clock
            clock.at(max(clock.now, self._free_at), self._flush)

    def _flush(self) -> None:
        self._due = False
        self._free_at = self._world.clock.now + BATCH_S
        if self._ordered and self._member.wants:
            self.claims()
        else:
            self._tell_arrived()
        if self._giving and self.watchers:
            self._tell(FRAMES.held + INDEX_BYTES * len(self._giving), partial(_tell_given, self._member, self._giving))
        self._giving = []

    def _tell_arrived(self) -> None:
        chunks, self._arrived = self._arrived, []
        if chunks and self.watchers:
            self._tell(FRAMES.held + INDEX_BYTES * len(chunks), partial(_tell_held, self._member, chunks))

    def _tell(self, size: float, deliver: partial[None]) -> None:
        watchers = list(self.watchers.values())
        self.sent += size * len(watchers)
        self._world.clock.after(self._world.scenario.delay_s, partial(deliver, watchers))


def _tell_held(sender: Member, chunks: list[int], receivers: list[Member]) -> None:
    news = ChunkMap(sender.world.chunks, chunks)
    for each in receivers:
        each.told_held(sender, chunks, news)


def _tell_given(sender: Member, chunks: list[int], receivers: list[Member]) -> None:
    for each in receivers:
        each.told_given(sender, chunks)


def _tell_claims(sender: Member, runs: ChunkMap, coming: ChunkMap, firm: ChunkMap, receivers: list[Member]) -> None:
    for each in receivers:
        each.told_claims(sender, runs, coming, firm)
