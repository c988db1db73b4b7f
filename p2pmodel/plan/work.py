"""One order at work: its chunks come one after the other, each through a buffer, as `PeerSource.fetch` has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pmodel.plan.flows import Stream
from p2pmodel.swarm import Flight

if TYPE_CHECKING:
    from p2pmodel.plan.member import Member


class Work:
    """Without a `giver` it is the hub that gives."""

    __slots__ = ("chunk", "flight", "giver", "member", "over", "since", "stream")

    def __init__(self, member: Member, flight: Flight, giver: Member | None) -> None:
        self.member = member
        self.flight = flight
        self.giver = giver
        self.chunk = flight.first
        self.stream: Stream | None = None
        self.since = 0.0  # when the chunk under way began
        self.over = False

    @property
    def received(self) -> float:
        """Bytes that have come."""
        world = self.member.world
        part = world.chunk_bytes - world.flows.left(self.stream) if self.stream else 0.0
        return (self.chunk - self.flight.first) * world.chunk_bytes + part

    def go_on(self) -> None:
        """Ask for room for the next chunk, or end."""
        flight, member = self.flight, self.member
        if self.over:
            return
        if self.chunk >= flight.first + flight.count:
            self.over = True
            member.order_ended(self)
        elif member.buffers_free:
            member.buffers_free -= 1
            self.begin_chunk()
        else:
            member.waiting.append(self)

    def begin_chunk(self) -> None:
        """There is a buffer."""
        world = self.member.world
        source = world.hub if self.giver is None else self.giver.up
        self.since = world.clock.now
        self.stream = world.flows.begin(source, self.member.down, world.chunk_bytes, self._came)

    def _came(self) -> None:
        self.stream = None
        self.member.free_buffer()
        self.member.chunk_came(self)
        self.chunk += 1
        self.go_on()

    def cancel(self) -> None:
        if self.stream is not None:
            self.member.world.flows.cancel(self.stream)
            self.member.free_buffer()
        self.over = True
        self.member.order_ended(self)
        self.stream = None
