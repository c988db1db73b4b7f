"""Who exchanges chunks with whom in a large cluster: those beside each other on a few rings.

On each ring the nodes that want or hold a blob stand in another order, by hash, and the last is beside the first. So each has
as many neighbours as any other, which matters: in a graph drawn at random the node with the fewest is last by far. All are a
few hops from each other, and whoever comes or goes concerns only those beside it.
"""

from __future__ import annotations

import hashlib
from bisect import bisect
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from p2pmodel.plan.member import Member


class Ring:
    def __init__(self, number: int) -> None:
        self._number = number
        self._places: list[bytes] = []
        self._members: list[Member] = []

    def enter_all(self, members: Iterable[Member]) -> None:
        placed = sorted((self._place(member), number, member) for number, member in enumerate(members))
        self._places = [place for place, _, _ in placed]
        self._members = [member for _, _, member in placed]

    def pairs(self) -> Iterator[tuple[Member, Member]]:
        for number, member in enumerate(self._members):
            yield member, self._members[number - 1]

    def enter(self, member: Member) -> tuple[Member, ...]:
        """Those now beside it."""
        place = self._place(member)
        if not self._members:
            self.enter_all([member])
            return ()
        number = bisect(self._places, place)
        beside = self._members[number - 1], self._members[number % len(self._members)]
        self._places.insert(number, place)
        self._members.insert(number, member)
        return beside

    def _place(self, member: Member) -> bytes:
        return hashlib.blake2b(f"{self._number}/{member.node}".encode(), digest_size=8).digest()
