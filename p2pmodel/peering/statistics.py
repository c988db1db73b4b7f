"""What this room counts. `metrics` renders it; nobody reads it to decide anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Traffic:
    """Bytes over all connections with one peer, or with all, TLS overhead aside."""

    received: int = 0
    sent: int = 0


@dataclass(slots=True)
class PeeringStatistics:
    dials: int = 0
    dials_failed: int = 0
    refused: int = 0  # connections turned away: too many, or from elsewhere
    handshakes_failed: int = 0  # the other end proved nothing, or not in time
    #: By reason: bye, broken, silent, overflow, protocol, replaced, untrusted.
    links_cut: Counter[str] = field(default_factory=Counter)
    protocol_errors: Counter[str] = field(default_factory=Counter)  # by place: opening, link, seeding, fetching
    tickets_refused: int = 0
    chunks_sent: int = 0
    chunks_received: int = 0
    slow_readers: int = 0  # peers that asked for a chunk and did not take it
    traffic: Traffic = field(default_factory=Traffic)
