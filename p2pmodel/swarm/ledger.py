"""Orders in flight for one blob: who was asked for what, and when the last byte came."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from p2pmodel.content import ChunkMap

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(slots=True)
class Flight:
    """One order in flight. `left` are its chunks that have not come yet."""

    number: int
    source: str
    first: int
    count: int
    left: ChunkMap
    started_at: float
    progress_at: float
    held_back: bool = False  # by our own limit: its source is not to blame, nor to be helped
    reason: str = ""  # why a hub was asked (`HubReason`)
    received: int = 0  # bytes


@dataclass(slots=True)
class Ledger:
    chunks: int
    flights: dict[int, Flight] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def begin(self, source: str, first: int, chunks: int, now: float, reason: str = "") -> Flight:
        left = ChunkMap.span(self.chunks, range(first, first + chunks))
        flight = Flight(next(self._numbers), source, first, chunks, left, now, now, reason=reason)
        self.flights[flight.number] = flight
        return flight

    def end(self, flight: Flight) -> None:
        self.flights.pop(flight.number, None)

    def arrived(self, chunk: int) -> None:
        for flight in self.flights.values():
            flight.left.discard(chunk)

    def pending(self, source: str | None = None) -> ChunkMap:
        """Chunks that are on their way (from one source, or from any)."""
        return self._owed(flight for flight in self.flights.values() if source is None or flight.source == source)

    def pending_since(self, source: str, then: float) -> ChunkMap:
        """Chunks that one source was asked for before then."""
        return self._owed(flight for flight in self.flights.values() if flight.source == source and flight.started_at < then)

    def _owed(self, flights: Iterable[Flight]) -> ChunkMap:
        return ChunkMap.union(self.chunks, (flight.left for flight in flights))

    def progressed_since(self, source: str, then: float) -> bool:
        """Whether bytes came from this source."""
        return any(flight.source == source and flight.progress_at > then for flight in self.flights.values())

    def next_age(self, now: float, age_s: float) -> float | None:
        """When the next flight will be so old."""
        times = (flight.started_at + age_s for flight in self.flights.values())
        return min((at for at in times if at > now), default=None)

    def moving(self, now: float, patience_s: float) -> ChunkMap:
        """Chunks of which some flight has seen a byte lately: what is pending and not `stalled`."""
        flights = self.flights.values()
        return self._owed(flight for flight in flights if flight.held_back or now - flight.progress_at < patience_s)

    def stalled(self, now: float, patience_s: float) -> ChunkMap:
        """Chunks whose every flight has seen no byte for `patience_s`."""
        slow, live = ChunkMap(self.chunks), ChunkMap(self.chunks)
        for flight in self.flights.values():
            if not flight.held_back and now - flight.progress_at >= patience_s:
                slow = slow | flight.left
            else:
                live = live | flight.left
        return slow - live

    def next_stall(self, now: float, patience_s: float) -> float | None:
        """When the next flight that is moving now would count as stalled."""
        times = ((now if flight.held_back else flight.progress_at) + patience_s for flight in self.flights.values())
        return min((at for at in times if at > now), default=None)
