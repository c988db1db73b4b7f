"""All links of this node, one per peer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from p2pmodel.content import NodeId
from p2pmodel.limits import LINKS_MAX, LINKS_PER_ADDRESS_MAX
from p2pmodel.peering.link import Link
from p2pmodel.peering.source import PeerSource
from p2pmodel.peering.subnets import on_this_machine


@dataclass(frozen=True, slots=True, eq=False)
class Neighbour:
    """A linked peer, and the source that it is."""

    link: Link
    source: PeerSource


class Links:
    def __init__(self, *, closed: bool) -> None:
        self._closed = closed
        self._neighbours: dict[NodeId, Neighbour] = {}

    def __len__(self) -> int:
        return len(self._neighbours)

    def __contains__(self, peer: object) -> bool:
        return peer in self._neighbours

    def __iter__(self) -> Iterator[Neighbour]:
        return iter(list(self._neighbours.values()))

    def find(self, peer: NodeId) -> Neighbour | None:
        return self._neighbours.get(peer)

    def nodes(self) -> list[NodeId]:
        return list(self._neighbours)

    def at(self, host: str) -> bool:
        """Whether a linked peer is there."""
        return any(each.link.connection.stream.remote.host == host for each in self)

    def refusal(self, new: Link) -> str:
        """Why a new link may not be; empty if it may."""
        present = self._neighbours.get(new.peer)
        if present:
            return "" if _supersedes(new, present.link) else "duplicate"
        if len(self) >= LINKS_MAX:
            return "full"
        host = new.connection.stream.remote.host
        if not self._closed and not on_this_machine(host) and self._hosts()[host] >= LINKS_PER_ADDRESS_MAX:
            return "crowded"
        return ""

    def put(self, new: Neighbour) -> Neighbour | None:
        """Returns the one that it replaces."""
        old = self._neighbours.get(new.link.peer)
        self._neighbours[new.link.peer] = new
        return old

    def remove(self, gone: Neighbour) -> bool:
        """False if another link has taken its place before."""
        if self._neighbours.get(gone.link.peer) is not gone:
            return False
        del self._neighbours[gone.link.peer]
        return True

    def own_host(self) -> str | None:
        """The address at which most peers see us."""
        seen = Counter(each.link.connection.stream.local.host for each in self)
        return min(seen, key=lambda host: (-seen[host], host), default=None)

    def _hosts(self) -> Counter[str]:
        return Counter(each.link.connection.stream.remote.host for each in self)


def _supersedes(new: Link, present: Link) -> bool:
    """Both ends decide alike: a restarted daemon's link is the true one; of two that were dialled at once, the one that the
    smaller id dialled; of two by the same dialler the new one, for it would not have dialled had the old one lived."""
    if new.boot != present.boot or new.dialler == present.dialler:
        return True
    return new.dialler < present.dialler
