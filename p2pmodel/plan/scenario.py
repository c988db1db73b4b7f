"""What is asked and what came out: plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from p2pmodel.limits import CHUNK_BYTES

FULL_MESH_MAX: Final = 16  # nodes: at 32, everyone telling everyone is 0.14 % of 512 MiB
NEIGHBOURS: Final = 8  # then: with how many a node exchanges what it holds
READERS: Final = 4  # and how many read from the hub
_CHUNKS_LEAST: Final = 128
_CHUNKS_MOST: Final = 2048
_CHUNKS_OF_ALL: Final = 256_000  # of all nodes together: about a minute of computing


@dataclass(frozen=True, slots=True)
class Scenario:
    """`nodes` want a model of `size` bytes; all links are up when the clock starts. Rates are in bytes/s.

    `neighbours` is with how many others a node exchanges what it holds, `readers` how many nodes at most read from the hub;
    None: all of them, as daemons do that are linked to everyone.
    """

    nodes: int
    size: int
    link: float  # of each node, each direction
    uplink: float  # of the whole site, to the hub
    holders: int = 0  # of the nodes: have it already
    seed: int = 1
    stagger_s: float = 0.0  # nodes begin at a time drawn from so long
    neighbours: int | None = None
    readers: int | None = None
    delay_s: float = 0.0002  # one way between two nodes
    hub_delay_s: float = 0.05  # from a request to the hub to its first byte
    chunks_max: int | None = None  # simulate at most so many chunks; None: as many as the number of nodes lets be fast
    exact: bool = False  # max-min rates

    @property
    def chunks(self) -> int:
        """How many chunks are simulated."""
        real = -(-self.size // CHUNK_BYTES)
        most = self.chunks_max or max(_CHUNKS_LEAST, min(_CHUNKS_MOST, _CHUNKS_OF_ALL // self.nodes))
        return max(1, min(real, most))

    @property
    def unit(self) -> float:
        """How many real chunks one simulated chunk stands for."""
        return self.size / CHUNK_BYTES / self.chunks

    @property
    def bound_s(self) -> float:
        """No way is faster: the model passes the uplink once, if nobody has it, and each node's own link once."""
        return max(self.size / self.link, 0.0 if self.holders else self.size / self.uplink)

    @property
    def alone_s(self) -> float:
        """Each node downloads it for itself."""
        cold = self.nodes - self.holders
        return max(cold * self.size / self.uplink, self.size / self.link)

    @classmethod
    def of_a_cluster(cls, *, nodes: int, size: int, link: float, uplink: float, holders: int = 0, seed: int = 1) -> Scenario:
        """A small cluster linked all with all, a large one with bounded neighbours."""
        few = nodes > FULL_MESH_MAX
        return cls(
            nodes=nodes,
            size=size,
            link=link,
            uplink=uplink,
            holders=holders,
            seed=seed,
            neighbours=NEIGHBOURS if few else None,
            readers=READERS if few else None,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    scenario: Scenario
    finished: int  # nodes that have it all in the end, holders included
    first_s: float  # the first node that did not have it has it
    mean_s: float
    last_s: float
    hub_bytes: float
    control_bytes: float  # sent by a node, on average
    control_bytes_most: float  # by the node that sent most
    neighbours: float  # on average
    readers: int  # nodes that read from the hub
    hub_orders: int
    twice: int  # chunks that came although they were here
    hub_busy: float  # how much of its line's time was used until the last byte came
    up_busy: float  # the same for the node that gave most
    down_busy: float
    events: int
    trace: str  # a digest of all finishing times: the same seed gives the same

    @property
    def hub_ratio(self) -> float:
        return self.hub_bytes / self.scenario.size

    @property
    def to_bound(self) -> float:
        return self.last_s / self.scenario.bound_s

    @property
    def control_ratio(self) -> float:
        return self.control_bytes / self.scenario.size
