"""A chunk's last steps: its digest is held against whoever vouches for it, then it is written, then it counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from p2pmodel.content import Grade, NodeId
from p2pmodel.delivery.pace import Turn
from p2pmodel.delivery.recorder import OK, FlightRecord
from p2pmodel.errors import P2pmodelError, WrongBytesError
from p2pmodel.swarm import HUB, Flight

if TYPE_CHECKING:
    from p2pmodel.delivery.download import Download
    from p2pmodel.delivery.ports import Surroundings


@dataclass(slots=True)
class ArrivalStatistics:
    """Chunks and bytes of all downloads by kind of source ("peer", "upstream"), for metrics."""

    chunks: dict[tuple[str, str], int]  # (source kind, "ok" | "wrong" | "twice")
    received: dict[str, int]

    def count(self, kind: str, result: str) -> None:
        self.chunks[kind, result] = self.chunks.get((kind, result), 0) + 1


class FlightSink:
    """The `Sink` of one order. `turn` is its place among all that comes from its kind of source."""

    def __init__(
        self, download: Download, around: Surroundings, flight: Flight, statistics: ArrivalStatistics, turn: Turn
    ) -> None:
        self._download = download
        self._around = around
        self._flight = flight
        self._statistics = statistics
        self._turn = turn
        self._kind = "upstream" if flight.source == HUB else "peer"
        self.chunks = 0  # that came, in order from the flight's first
        self.bytes = 0
        self.place = "" if flight.source == HUB else around.neighbours.address(NodeId(flight.source))

    def buffer(self) -> AbstractAsyncContextManager[memoryview]:
        return self._around.buffers.take()

    async def allow(self, count: int) -> int:
        self._flight.held_back = True
        try:
            return await self._turn.take(count)
        finally:
            self._flight.held_back = False
            self._flight.progress_at = trio.current_time()

    def progress(self, received: int) -> None:
        now = trio.current_time()
        self._download.swarm.progress(self._flight, received, now)
        self._download.rates.count(self._flight.source, received, now)
        self.bytes += received
        self._statistics.received[self._kind] = self._statistics.received.get(self._kind, 0) + received

    def answered_by(self, upstream: str) -> None:
        self.place = self._download.upstream = upstream

    async def arrived(self, index: int, data: memoryview, digest: bytes, *, claimed: bytes | None, grade: Grade) -> None:
        download, stored = self._download, self._download.stored
        if claimed is not None and claimed != digest:
            self._wrong(index, "do not have the digest that came with them")
        known = stored.digest(index) if index in stored.held else None
        own = known is not None and (stored.sealed or index in stored.own)
        if own and known != digest:
            if self._kind == "peer":
                self._wrong(index, "are not those that the hub gave us")
            self._statistics.count(self._kind, "wrong")
            raise WrongBytesError(f"The hub gave two different answers for chunk {index} of {download.blob.id}.")
        if self._kind == "peer" and (signer := download.contradicts_seal(index, digest)) is not None:
            if signer == self._flight.source:
                self._wrong(index, "are not what it sealed itself")
            download.swarm.refuse(self._flight.source, index)  # one of two is wrong and we cannot tell which: no strike
            self._statistics.count(self._kind, "wrong")
            raise WrongBytesError(f"Chunk {index} of {download.blob.id} is not what {signer} sealed.")
        if known == digest and (own or grade is not Grade.OWN):
            self._statistics.count(self._kind, "twice")
        else:
            await self._write(index, data, digest, grade, replaces=known if known != digest else None)
        download.swarm.arrived(index, hub=self._kind == "upstream")
        self.chunks += 1
        download.wake()

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Around the order: however it ends, the recorder is told."""
        outcome = "given up"  # cancelled: nobody wants it any more, or another source was faster
        try:
            yield
            outcome = OK
        except P2pmodelError as error:
            outcome = type(error).__name__
            raise
        finally:
            self._around.recorder.record(self._record(outcome))

    def _record(self, outcome: str) -> FlightRecord:
        flight, stored = self._flight, self._download.stored
        return FlightRecord(
            blob=str(stored.blob.id),
            first=flight.first,
            count=flight.count,
            came=self.chunks,
            source=flight.source,
            place=self.place,
            bytes=self.bytes,
            seconds=round(trio.current_time() - flight.started_at, 3),
            outcome=outcome,
            reason="private" if stored.private and flight.reason else flight.reason,
            private=stored.private,
        )

    async def _write(self, index: int, data: memoryview, digest: bytes, grade: Grade, *, replaces: bytes | None) -> None:
        download, sealing = self._download, self._download.sealing
        if replaces is not None:
            self._expose(index)
        upgrade = index in download.stored.held and replaces is None
        hot = not upgrade and sealing.takes(index)
        generation = sealing.generation

        def write() -> None:
            download.stored.write(index, data, digest, grade)
            if hot:
                sealing.update(data)

        try:
            await self._around.blocking(write)
        except BaseException:
            if hot:
                sealing.given_up(generation)
            raise
        if hot:
            sealing.done(generation)
        self._statistics.count(self._kind, "ok")
        download.arrived(index, len(data), self._flight.source, upgrade=upgrade)

    def _expose(self, index: int) -> None:
        """Our own read of the hub differs from what a peer gave: that peer is proven false, to us."""
        giver = self._download.givers.get(index)
        if giver is not None:
            self._around.standing.rest(giver, trio.current_time())
            self._statistics.count("peer", "wrong")
        self._download.sealing.restart()

    def _wrong(self, index: int, why: str) -> None:
        self._statistics.count(self._kind, "wrong")
        self._download.blame(NodeId(self._flight.source), index)
        raise WrongBytesError(f"The bytes of chunk {index} of {self._download.blob.id} from {self._flight.source} {why}.")
