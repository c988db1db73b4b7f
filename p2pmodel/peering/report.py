"""What `p2pmodel peers` and the metrics show of the peers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import trio

from p2pmodel.content import NodeId
from p2pmodel.peering.directory import Entry
from p2pmodel.peering.inventories import Inventories
from p2pmodel.peering.links import Links

PeerState = Literal["linked", "dialling", "lost", "heard"]


@dataclass(frozen=True, slots=True)
class PeerReport:
    """`state` is "linked", "dialling", "lost" (was linked once) or "heard" (a hint). Seconds and bytes."""

    node: NodeId | None
    address: str
    state: PeerState
    origin: str
    linked_for_s: float | None = None
    rtt_s: float | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    blobs: int = 0


def report_peers(links: Links, entries: Iterable[Entry], inventories: Inventories) -> list[PeerReport]:
    """The linked ones first."""
    now = trio.current_time()
    linked = [
        PeerReport(
            node=link.peer,
            address=str(link.address),
            state="linked",
            origin="link",
            linked_for_s=now - link.since,
            rtt_s=link.rtt_s,
            bytes_in=link.traffic.received,
            bytes_out=link.traffic.sent,
            blobs=inventories.count(link.peer),
        )
        for link in sorted((each.link for each in links), key=lambda link: link.peer)
    ]
    return linked + [
        PeerReport(node=entry.node, address=str(entry.address), state=_state_of(entry), origin=entry.origin)
        for entry in entries
        if entry.node is None or entry.node not in links
    ]


def _state_of(entry: Entry) -> PeerState:
    if entry.dialling:
        return "dialling"
    return "lost" if entry.proven else "heard"
