"""Tickets for data connections: got over the link, spent once, by the peer who got them."""

from __future__ import annotations

import random
from typing import Final

from p2pmodel.content import NodeId
from p2pmodel.limits import CONNECTIONS_PER_PEER_MAX, TICKET_S

_TICKET_BYTES: Final = 16


class Tickets:
    """Unspent tickets. `dice` must be unpredictable outside a simulation: a ticket is all that a plain connection shows."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._unspent: dict[bytes, tuple[NodeId, float]] = {}

    def issue(self, peer: NodeId, now: float) -> bytes | None:
        """A ticket good for TICKET_S; None if the peer has as many unspent ones as it may have connections."""
        self._expire(now)
        if sum(owner == peer for owner, _ in self._unspent.values()) >= CONNECTIONS_PER_PEER_MAX:
            return None
        ticket = self._dice.randbytes(_TICKET_BYTES)
        self._unspent[ticket] = (peer, now + TICKET_S)
        return ticket

    def spend(self, ticket: bytes, now: float) -> NodeId | None:
        """Whose ticket this is; None for a forged, late or spent one."""
        self._expire(now)
        owner, _ = self._unspent.pop(ticket, (None, 0.0))
        return owner

    def _expire(self, now: float) -> None:
        for ticket in [ticket for ticket, (_, until) in self._unspent.items() if until <= now]:
            del self._unspent[ticket]
