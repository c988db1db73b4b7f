"""How fast the hub and the peers were lately, and whether the peers of a blob are slower than the hub would be (DESIGN
promise 4: a client never waits for a peer that is slower than the hub)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from p2pmodel.limits import MIB

if TYPE_CHECKING:
    from collections.abc import Collection

    from p2pmodel.swarm.ledger import Flight

SLOW_AFTER_S: Final = 5.0  # an order is given so long to show what its peer can do
_MARGIN: Final = 2  # a hub must promise so many times the peers' rate: its bytes are dearer
_UNKNOWN_HUB: Final = 1.0 * MIB  # bytes/s: a LAN below this is worth a try at a hub of which nothing is known
_UNKNOWN_PEER: Final = 100.0 * MIB  # bytes/s: of peers of which nothing is known, a gigabit line
_KEEP: Final = 0.7  # of an average, at each new observation


@dataclass(slots=True)
class Rates:
    """A node's memory over all its swarms. Bytes per second."""

    hub: float = _UNKNOWN_HUB
    peer: float = _UNKNOWN_PEER  # of one order: several side by side bring more

    def observe(self, received: int, seconds: float, *, hub: bool) -> None:
        """An order is over."""
        if seconds <= 0 or received < MIB:  # less says more about latency than about rate
            return
        if hub:
            self.hub = _KEEP * self.hub + (1 - _KEEP) * received / seconds
        else:
            self.peer = _KEEP * self.peer + (1 - _KEEP) * received / seconds

    def slower_than_hub(self, flights: Collection[Flight], now: float) -> bool:
        """Whether these orders, all that are in flight to the peers of a blob, bring less than a hub would. One that brings
        nothing is not slow but stalled, one that our own limit holds back says nothing of its peer."""
        if not flights or any(not flight.received or flight.held_back for flight in flights):
            return False
        if any(now - flight.started_at < SLOW_AFTER_S for flight in flights):
            return False
        return _MARGIN * sum(flight.received / (now - flight.started_at) for flight in flights) < self.hub
