"""Where connections wait until they have proven who they are: so many at once, so many an address.

A stranger who only stands there must not keep the next one out: when all places are taken, the address that has most of
them gives up its oldest. So a crowd from a few addresses pushes itself aside. Of one from very many addresses each has its
place for less time than a busy machine needs for a handshake; but who has said enough to be answered goes after all who have
not, and a crowd that says so much has it to pay for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from p2pmodel.limits import UNPROVEN_CONNECTIONS_MAX, UNPROVEN_PER_ADDRESS_MAX


@dataclass(slots=True, eq=False)
class Place:
    host: str
    scope: trio.CancelScope
    answered: bool = False

    def answering(self) -> None:
        """Its holder has said enough to be answered."""
        self.answered = True


class Antechamber:
    def __init__(self) -> None:
        self._places: list[Place] = []  # oldest first

    def refuses(self, host: str) -> bool:
        """Whether this host has all the places that one may have."""
        return sum(place.host == host for place in self._places) >= UNPROVEN_PER_ADDRESS_MAX

    @contextmanager
    def place(self, host: str, scope: trio.CancelScope) -> Iterator[Place]:
        """A place for as long as this is open; `scope` is cancelled if another one needs it more."""
        if len(self._places) >= UNPROVEN_CONNECTIONS_MAX:
            self._make_way()
        place = Place(host, scope)
        self._places.append(place)
        try:
            yield place
        finally:
            if place in self._places:  # else it made way before
                self._places.remove(place)

    def _make_way(self) -> None:
        idle = [place for place in self._places if not place.answered] or self._places
        of_host = Counter(place.host for place in idle)
        goes = max(idle, key=lambda place: of_host[place.host])  # of equals the one that came first
        self._places.remove(goes)
        goes.scope.cancel()
