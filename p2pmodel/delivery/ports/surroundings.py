"""All that delivery stands on, in one value: its parts take it whole instead of a dozen arguments each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pmodel.content import Circle, NodeId
from p2pmodel.content.attestation import CLUSTER_BYTES
from p2pmodel.delivery.blocking import Blocking
from p2pmodel.delivery.buffers import Buffers
from p2pmodel.delivery.pace import Pace
from p2pmodel.delivery.ports.peers import Neighbours
from p2pmodel.delivery.ports.store import Store
from p2pmodel.delivery.ports.upstreams import Upstreams
from p2pmodel.delivery.recorder import FlightRecorder, Unrecorded
from p2pmodel.limits import ACCESS_ALLOW_S
from p2pmodel.swarm import Rates, Standing

_NOBODY: Final = NodeId("")
NOWHERE: Final = Circle(bytes(CLUSTER_BYTES))  # the circle of a node that has no cluster


@dataclass(frozen=True, slots=True)
class Sharing:
    """Which peers may have private blobs: none, those who prove access, or all members. `accepted_keys` are the cluster's
    by their tag, ours first: while it changes its key there are two. `lasts_s`: how long a proof is believed."""

    policy: Literal["off", "prove", "members"] = "off"
    node: NodeId = _NOBODY
    accepted_keys: Callable[[], Mapping[bytes, bytes]] = dict
    lasts_s: float = ACCESS_ALLOW_S


def _no_time() -> float:
    return 0.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The rooms and seams that delivery stands on, wired once in daemon.py (or by a simulation)."""

    store: Store
    upstreams: Upstreams
    neighbours: Neighbours
    blocking: Blocking
    buffers: Buffers
    standing: Standing
    rng: Random
    key: Ed25519PrivateKey  # this node's: signs seals and listings
    rates: Rates = field(default_factory=Rates)
    closed: bool = False  # members of a closed cluster vouch for listings to each other
    sharing: Sharing = Sharing()
    circle: Callable[[], Circle] = lambda: NOWHERE
    vouchers: int = 0  # how many members' seals let bytes of a closed cluster leave before our own check
    peer_pace: Pace = field(default_factory=Pace)  # of what comes from peers
    hub_pace: Pace = field(default_factory=Pace)  # of chunks from hubs
    recorder: FlightRecorder = field(default_factory=Unrecorded)
    wall: Callable[[], float] = _no_time  # unix seconds
