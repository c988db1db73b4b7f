"""Whose turn it is to read a cold run from the hub.

Few nodes: each run has a line of all who want the blob, drawn by rendezvous hashing; its first reads it, the next may when
nobody before it has taken the run for a while. Many nodes: READERS of them, drawn for the blob in the same way, share the
runs out among themselves; the others hear too little of who reads what to take part, and leave the hub alone for as long as
anything moves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from p2pmodel.content import ChunkMap
from p2pmodel.limits import LEASE_S
from p2pmodel.swarm.rendezvous import line_for, run_length, run_owners

if TYPE_CHECKING:
    from collections.abc import Collection
    from random import Random

    from p2pmodel.content import BlobId

FEW: Final = 16  # nodes that all hear of everything that each other one does
READERS: Final = 4  # of the hub where there are more: enough to fill an uplink, few enough to know each other's orders
UNCLAIMED_S: Final = 3.0  # how long a run waits for its owner to claim it before the next in line may
HUB_STREAMS: Final = 4  # orders to the hub at a time, of all nodes together: a single one rarely fills a long path


class Turns:
    def __init__(self, blob: BlobId, chunks: int, own: str, rng: Random) -> None:
        self.run_length = run_length(chunks)
        self._blob = blob
        self._chunks = chunks
        self._own = own
        self._rng = rng
        self._waiting_since: dict[int, float] = {}  # run → since when it is nobody's
        self._rivals: frozenset[str] = frozenset()
        self._readers: list[str] = [own]
        self._place = 0  # ours among all who want the blob
        self._places: dict[int, int] = {}  # run → ours in its line

    def meet(self, rivals: frozenset[str]) -> None:
        """The weights of the other nodes that want the blob."""
        if rivals == self._rivals:
            return
        self._rivals, self._places = rivals, {}
        line = line_for(self._blob, {self._own, *rivals})
        self._place = line.index(self._own)
        self._readers = line if len(line) <= FEW else line[:READERS]

    @property
    def readers(self) -> Collection[str]:
        """The weights of those who share out the hub's runs."""
        return self._readers

    @property
    def streams(self) -> int:
        """How many orders to the hub this node may have at a time."""
        return max(1, HUB_STREAMS // len(self._readers))

    def before(self, run: int) -> int:
        """How many nodes stand before this one in a run's line."""
        if run not in self._places:
            self._places[run] = run_owners(self._blob, run, {self._own, *self._readers}).index(self._own)
        return self._places[run]

    def arrived(self, chunk: int) -> None:
        self._waiting_since.pop(chunk // self.run_length, None)

    def slept(self, seconds: float) -> None:
        self._waiting_since = {run: since + seconds for run, since in self._waiting_since.items()}

    def yields(self, run: int, rival: str) -> bool:
        """Whether this node gives a run up that another one is reading too."""
        return run_owners(self._blob, run, {self._own, rival})[0] != self._own

    def leaves_alone(self, news_at: float, now: float) -> bool:
        """Whether it is others who read from the hub, whatever there is to read. `news_at`: when we last heard of any chunk of
        the blob."""
        return self._own not in self._readers and bool(self._rivals) and now < self._starved_at(news_at)

    def mine(self, candidates: ChunkMap, now: float) -> ChunkMap:
        """The candidates in runs that this node may claim now: its own, else one that nobody before it in line has taken for
        a while; drawn by lot, so that two nodes that have nothing left to do do not take the same one. Not for a node that
        `leaves_alone` the hub."""
        if not candidates or not self._rivals:
            return candidates
        runs = sorted({chunk // self.run_length for chunk in candidates})
        self._waiting_since = {run: self._waiting_since.get(run, now) for run in runs}
        own = [run for run in runs if self.before(run) == 0]
        left_over = [run for run in runs if now - self._waiting_since[run] >= self.before(run) * UNCLAIMED_S]
        mine = ChunkMap(self._chunks)
        for run in own or ([self._rng.choice(left_over)] if left_over else []):
            stop = min((run + 1) * self.run_length, self._chunks)
            mine = mine | ChunkMap.span(self._chunks, range(run * self.run_length, stop))
        return mine & candidates

    def wake_times(self, news_at: float) -> list[float]:
        """When `mine` may answer differently although nothing happened."""
        steps = (1, 2, 3)
        times = [since + step * UNCLAIMED_S for since in self._waiting_since.values() for step in steps]
        return times if self._own in self._readers else [*times, self._starved_at(news_at)]

    def _starved_at(self, news_at: float) -> float:
        """From when on a node that is no reader helps itself: the readers cannot, whatever the reason. One after the other."""
        return news_at + LEASE_S + (self._place - READERS) * UNCLAIMED_S
