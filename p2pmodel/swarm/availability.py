"""What the peers say of one blob: what they hold, whether they want it, which runs they are reading from the hub."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from p2pmodel.content import ChunkMap, NodeId
from p2pmodel.limits import LEASE_S

if TYPE_CHECKING:
    pass


@dataclass(slots=True)
class PeerView:
    """One peer's side of the blob. `answered` is false until its first `Have` came."""

    weight: str
    held: ChunkMap
    claims: ChunkMap  # it is reading these from the hub
    firm: ChunkMap  # of those, since a while
    coming: ChunkMap  # it is getting these from peers
    given: ChunkMap  # it holds all, and gave these to somebody already
    answered: bool = False
    wanted: bool = False
    sealed: bool = False
    quiet: bool = False  # nothing was heard of it for a while
    progress_at: float = 0.0  # when it last claimed anew or told of a chunk: a claim without progress runs out

    def claims_hold(self, now: float) -> bool:
        return bool(self.claims) and not self.quiet and now - self.progress_at < LEASE_S


@dataclass(slots=True)
class Availability:
    chunks: int
    peers: dict[NodeId, PeerView] = field(default_factory=dict)

    def join(self, peer: NodeId, weight: str) -> None:
        held, claims, firm, coming, given = (ChunkMap(self.chunks) for _ in range(5))
        self.peers.setdefault(peer, PeerView(weight, held, claims, firm, coming, given))

    def leave(self, peer: NodeId) -> None:
        self.peers.pop(peer, None)

    def holders(self, chunk: int) -> list[NodeId]:
        return [peer for peer, view in self.peers.items() if chunk in view.held]

    def claimed(self, now: float) -> ChunkMap:
        """What peers are reading from the hub, with progress."""
        return ChunkMap.union(self.chunks, (view.claims for view in self.peers.values() if view.claims_hold(now)))

    def soon_held(self) -> list[ChunkMap]:
        """What each peer holds or is about to hold: a chunk that is on its way to others is not rare."""
        return [ChunkMap.union(self.chunks, (view.held, view.claims, view.coming)) for view in self.peers.values()]

    def next_lease_end(self, now: float) -> float | None:
        ends = [view.progress_at + LEASE_S for view in self.peers.values() if view.claims]
        return min((end for end in ends if end > now), default=None)
