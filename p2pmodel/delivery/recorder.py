"""The flight recorder: what each order brought, from whom, and why a hub was asked. `p2pmodel why` reads it.

It is a witness, never a part of the deed: `record` neither waits nor raises, lines go to the disk in batches off the trio
thread, and what the disk does not take is counted and forgotten. A record is one line of JSON, so that a daemon that is
killed in the middle of one costs that line and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, Protocol, Self

import msgspec
import trio

from p2pmodel.content import BlobId
from p2pmodel.delivery.blocking import Blocking
from p2pmodel.errors import StoreError
from p2pmodel.limits import FLIGHTS_EVERY_S, FLIGHTS_WAITING_MAX

OK: Final = "ok"
FALSE_VOUCHER: Final = "false_voucher"  # no order: the source vouched for what was not so, and `count` chunks had left by it

PROVEN: Final = "proven"  # no order: the source listed the `count` pieces by which the hub's root proves what peers give
NO_ORDERS: Final = frozenset({FALSE_VOUCHER, PROVEN})


class FlightRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One order, once it is over. Of its chunks [first, first + count) the first `came` came."""

    blob: str
    first: int
    count: int
    came: int
    source: str  # a peer's node id, or "hub"
    place: str  # the peer's address, or the upstream's name
    bytes: int
    seconds: float
    outcome: str = OK  # or the name of the error that ended it
    reason: str = ""  # why a hub was asked (swarm's HubReason)
    private: bool = False
    at: float = 0.0  # Unix time when it began; the recorder's to say


class FlightLog(Protocol):
    """Where lines are kept: bounded, the oldest go first. Blocks."""

    def append(self, lines: Sequence[bytes]) -> None:
        """Raises StoreError."""

    def lines(self) -> Iterable[bytes]:
        """Oldest first; the last of a run that was killed may be torn."""


class FlightRecorder(Protocol):
    """What a download needs of it."""

    def record(self, flight: FlightRecord) -> None:
        """Take note of an order that has just ended."""


class Unrecorded:
    """For a simulation, and whoever else does not look back."""

    def record(self, flight: FlightRecord) -> None:
        """Nobody asks."""


class Recorder:
    """`clock` tells Unix time. `run` is its task; leaving its context writes what then still waits."""

    def __init__(self, log: FlightLog, *, blocking: Blocking, clock: Callable[[], float]) -> None:
        self.lost = 0  # records that the disk did not take, or that came faster than it took them
        self._log = log
        self._blocking = blocking
        self._clock = clock
        self._waiting: list[FlightRecord] = []
        self._news = trio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        with trio.CancelScope(shield=True):  # a disk's time, no more
            await self._write()

    def record(self, flight: FlightRecord) -> None:
        if len(self._waiting) >= FLIGHTS_WAITING_MAX:
            self.lost += 1
            return
        self._waiting.append(msgspec.structs.replace(flight, at=round(self._clock() - flight.seconds, 3)))
        self._news.set()

    async def run(self) -> None:
        while True:
            await self._news.wait()
            self._news = trio.Event()
            await trio.sleep(FLIGHTS_EVERY_S)
            await self._write()

    async def flights(self, blobs: Collection[BlobId]) -> list[FlightRecord]:
        """What is remembered of public transfers of these blobs, in the order in which they ended."""
        await self._write()
        return await self._blocking(self._read, frozenset(map(str, blobs)))

    async def _write(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            await self._blocking(self._append, waiting)

    def _append(self, flights: Sequence[FlightRecord]) -> None:
        try:
            self._log.append([msgspec.json.encode(flight) for flight in flights])
        except StoreError:  # a full disk is told by the transfer itself
            self.lost += len(flights)

    def _read(self, blobs: frozenset[str]) -> list[FlightRecord]:
        decoder = msgspec.json.Decoder(FlightRecord)
        found = []
        for line in self._log.lines():
            try:
                flight = decoder.decode(line)
            except (ValueError, RecursionError):  # torn, or of a version that wrote it otherwise
                continue
            if flight.blob in blobs and not flight.private:
                found.append(flight)
        return found
