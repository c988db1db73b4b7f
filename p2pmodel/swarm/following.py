"""Of which peers a node wants to hear what comes to them, and whether those have said what they hold by now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pmodel.limits import SETTLE_MAX_S, SETTLE_S
from p2pmodel.swarm.rendezvous import Rings
from p2pmodel.swarm.turns import FEW, READERS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from p2pmodel.content import BlobId, NodeId
    from p2pmodel.swarm.availability import Availability, PeerView


class Following:
    """`met_at` is when this node will have met the others of its cluster."""

    def __init__(self, blob: BlobId, own_weight: str, availability: Availability, *, now: float, met_at: float) -> None:
        self.peers: frozenset[NodeId] = frozenset()
        self._own_weight = own_weight
        self._availability = availability
        self._rings = Rings(blob, own_weight)
        self._met_at = met_at
        self._asked_at = self._answer_at = now  # when peers were last asked what they hold, and when the last one said it

    def asked(self, peers: Iterable[NodeId], now: float) -> None:
        for peer in peers:
            self._availability.peers[peer].answered = False
            self._asked_at = now

    def answered(self, view: PeerView, now: float) -> None:
        if not view.answered:
            self._answer_at = now
        view.answered = True

    def choose(self, readers: Collection[str]) -> None:
        """Of few all; of many those beside us, so that what a node hears does not grow with the cluster. Readers of the hub
        follow each other too, and those who hold it all from the start."""
        everybody = self._availability.peers
        views = {peer: view for peer, view in everybody.items() if not view.quiet and (view.wanted or view.held)}
        if len(views) < FEW:
            self.peers = frozenset(everybody)
            return
        chosen = self._rings.beside({view.weight for view in views.values()})
        if self._own_weight in readers:
            chosen = chosen | set(readers) | _givers(views.values())
        self.peers = frozenset(peer for peer, view in views.items() if view.weight in chosen)

    def settled(self, now: float) -> bool:
        """Whether the peers had their chance to say what they hold and want."""
        if now < self._met_at:
            return False
        return self.all_answered or now >= self.settled_by

    @property
    def all_answered(self) -> bool:
        views = [self._availability.peers[peer] for peer in self.peers]
        return all(view.answered or view.quiet for view in views)

    @property
    def settled_by(self) -> float:
        """Whoever has not answered until then is not waited for: longer where many are still answering."""
        return max(self._met_at, min(self._asked_at + SETTLE_MAX_S, max(self._asked_at, self._answer_at) + SETTLE_S))


def _givers(views: Iterable[PeerView]) -> set[str]:
    """A few who hold it all: the readers fetch from them, and everybody else from whom they follow."""
    return set(sorted(view.weight for view in views if view.sealed)[:READERS])
