"""Swarm: who is asked for which chunk of a blob. Pure: time and randomness are arguments, nothing here waits or sends.

`Swarm` is one blob's meeting point: facts go in (a peer holds this, an order failed), one decision comes out
(`next_order`). It keeps an `Availability` (what peers hold, want and claim), a `Ledger` (orders in flight), `Reads` (what we
must read from the hub ourselves) and `Following` (of whom we hear what comes to them); the policy stands in `picker` and
`turns` (who reads a cold run from the hub). `Standing` is a node's memory of who lied or gave wrong
bytes, shared by all its swarms.
Trio runs one task at a time, so a plain object with synchronous methods needs no lock.
"""

from p2pmodel.swarm.availability import Availability, PeerView
from p2pmodel.swarm.ledger import Flight, Ledger
from p2pmodel.swarm.rates import Rates
from p2pmodel.swarm.reasons import HubReason
from p2pmodel.swarm.rendezvous import line_for, run_length, run_owners
from p2pmodel.swarm.standing import Ban, Standing, Why
from p2pmodel.swarm.swarm import CROSSING_S, HUB, SourceName, Swarm
from p2pmodel.swarm.turns import HUB_STREAMS

__all__ = [
    "CROSSING_S",
    "HUB",
    "HUB_STREAMS",
    "Availability",
    "Ban",
    "Flight",
    "HubReason",
    "Ledger",
    "PeerView",
    "Rates",
    "SourceName",
    "Standing",
    "Swarm",
    "Why",
    "line_for",
    "run_length",
    "run_owners",
]
