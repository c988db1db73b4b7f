"""A chunk's last steps: its digest is held against whoever vouches for it, then it is written, then it counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass

import trio

from p2pmodel.content import Grade, NodeId
from p2pmodel.delivery.court import Court
from p2pmodel.delivery.herald import Herald
from p2pmodel.delivery.meter import Meter
from p2pmodel.delivery.pace import Turn
from p2pmodel.delivery.ports import StoredBlob, Surroundings
from p2pmodel.delivery.recorder import OK, FlightRecord
from p2pmodel.delivery.sealing import Sealing, update
from p2pmodel.delivery.trial import RefusedError, Trial
from p2pmodel.errors import P2pmodelError, WrongBytesError
from p2pmodel.limits import COMMIT_CHUNKS
from p2pmodel.swarm import HUB, Flight, SourceName, Swarm
from p2pmodel.wire.messages import BadChunk


@dataclass(slots=True)
class ArrivalStatistics:
    """What this node was asked for, by kind of source ("peer", "upstream"; "store": it was here), for metrics."""

    chunks: dict[tuple[str, str], int]  # (source kind, "ok" | "wrong" | "twice")
    received: dict[str, int]  # bytes
    mismatches: int = 0  # blobs that were complete and did not have their own hash

    def count(self, kind: str, result: str) -> None:
        self.chunks[kind, result] = self.chunks.get((kind, result), 0) + 1

    def came(self, kind: str, size: int) -> None:
        self.received[kind] = self.received.get(kind, 0) + size


class Arrivals:
    """What has come of one blob, and from whom. `changed` is called when a chunk has come."""

    def __init__(
        self,
        stored: StoredBlob,
        swarm: Swarm,
        around: Surroundings,
        herald: Herald,
        statistics: ArrivalStatistics,
        court: Court,
        changed: Callable[[], None],
    ) -> None:
        self.stored = stored
        self.swarm = swarm
        self.sealing = Sealing(stored.blob)
        self.trial = Trial(stored, swarm, around, court)
        self.statistics = statistics
        self.received: Counter[str] = Counter()  # bytes by "peers" and "upstream"
        self.meter = Meter()  # what comes, by source
        self.upstream = ""  # the one that answered last
        self.uncommitted = 0  # chunks
        self.many_uncommitted = trio.Event()  # enough for a group commit
        self.changed = changed
        self.vouched: Callable[[int], bool] = lambda _chunk: False  # such a chunk is not replaced by a mirror's bytes
        self._around = around
        self._herald = herald
        self._court = court

    def landed(self, chunk: int, size: int, source: SourceName, *, upgrade: bool) -> None:
        """A chunk was verified and written: held now, durable after the next group commit."""
        if source == HUB:
            self.received["upstream"] += size
        else:
            self.received["peers"] += size
        self.uncommitted += 1
        if self.uncommitted >= COMMIT_CHUNKS:
            self.many_uncommitted.set()
        better = source == HUB  # who refused it for another's word will take it with ours
        if (better or not upgrade) and self.trial.may_serve(chunk):
            self._herald.arrived(self.stored.blob.id, chunk)

    def commits(self) -> None:
        """All that is here is about to become durable."""
        self.uncommitted, self.many_uncommitted = 0, trio.Event()

    def blame(self, peer: SourceName, chunk: int) -> None:
        """A peer's bytes were not those of the digest it gave itself, or of one that we know is right."""
        self._court.strike(NodeId(peer), self.stored.blob)
        self.swarm.refuse(peer, chunk)
        self.complain(peer, chunk)

    def complain(self, peer: SourceName, chunk: int) -> None:
        self._around.neighbours.send(NodeId(peer), BadChunk(blob=self.stored.blob.id.to_bytes(), chunk=chunk))


class FlightSink:
    """The `Sink` of one order. `turn` is its place among all that comes from its kind of source."""

    def __init__(self, arrivals: Arrivals, around: Surroundings, flight: Flight, turn: Turn) -> None:
        self._arrivals = arrivals
        self._around = around
        self._flight = flight
        self._statistics = arrivals.statistics
        self._turn = turn
        self._kind = "upstream" if flight.source == HUB else "peer"
        self._plain = False  # how the last chunk came
        self.chunks = 0  # that came, in order from the flight's first
        self.bytes = 0
        self.place = "" if flight.source == HUB else around.neighbours.address(NodeId(flight.source))

    def buffer(self) -> AbstractAsyncContextManager[memoryview]:
        return self._around.buffers.take() if self._kind == "upstream" else self._around.buffers.take_for_peer()

    async def allow(self, count: int) -> int:
        self._flight.held_back = True
        try:
            return await self._turn.take(count)
        finally:
            self._flight.held_back = False
            self._flight.progress_at = trio.current_time()

    def progress(self, received: int) -> None:
        now = trio.current_time()
        self._arrivals.swarm.progress(self._flight, received, now)
        self._arrivals.meter.count(self._flight.source, received, now)
        self.bytes += received
        self._statistics.came(self._kind, received)

    def answered_by(self, upstream: str) -> None:
        self.place = self._arrivals.upstream = upstream

    async def arrived(
        self,
        index: int,
        data: memoryview,
        digest: bytes,
        *,
        claimed: bytes | None,
        grade: Grade,
        word: bytes = b"",
        plain: bool = False,
    ) -> None:
        arrivals, stored = self._arrivals, self._arrivals.stored
        self._plain = plain
        if claimed is not None and claimed != digest:
            self._wrong(index, "do not have the digest that came with them")
        if self._kind == "peer":
            self._weigh(index, digest, word)
            grade = Grade.SINGLE
        known = stored.digest(index) if index in stored.held else None
        own = known is not None and (stored.sealed or stored.grade(index).proves)
        if own and known != digest:
            self._statistics.count(self._kind, "wrong")
            raise WrongBytesError(f"The hub gave two different answers for chunk {index} of {stored.blob.id}.")
        if (known == digest and (own or grade is not Grade.OWN)) or (not grade.proves and arrivals.vouched(index)):
            self._statistics.count(self._kind, "twice")
        else:
            await self._write(index, data, digest, grade, replaces=known if known != digest else None)
        arrivals.swarm.arrived(index, hub=self._kind == "upstream")
        self.chunks += 1
        arrivals.changed()

    def _weigh(self, index: int, digest: bytes, word: bytes) -> None:
        """Raises WrongBytesError if a peer's chunk is not taken."""
        try:
            self._arrivals.trial.weigh(NodeId(self._flight.source), index, digest, word)
        except RefusedError as refused:
            if refused.blame:
                self._wrong(index, str(refused))
            self._arrivals.swarm.refuse(self._flight.source, index)
            self._statistics.count(self._kind, "wrong")
            self._arrivals.changed()  # there may be a dispute to settle
            raise self._wrong_bytes(index, str(refused)) from None

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
        flight, stored = self._flight, self._arrivals.stored
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
        stored, sealing = self._arrivals.stored, self._arrivals.sealing
        if replaces is not None:
            sealing.restart()
        upgrade = index in stored.held and replaces is None
        hot = not upgrade and sealing.takes(index)
        generation = sealing.generation
        word = self._arrivals.trial.testimony.word_for(index, digest) if self._kind == "peer" else None

        def write() -> None:
            stored.write(index, data, digest, grade, word)
            if hot:
                update(generation, data)

        try:
            await self._around.blocking(write)
        except BaseException:
            if hot:
                sealing.given_up(generation)
            raise
        if hot:
            sealing.done(generation, digest)
        self._statistics.count(self._kind, "ok")
        if self._kind == "peer":
            self._arrivals.trial.landed(index, digest, NodeId(self._flight.source))
        elif grade.proves:
            self._arrivals.trial.proven(index, digest, replaced=replaces is not None)
        else:
            self._arrivals.trial.mirror_only = True
        self._arrivals.landed(index, len(data), self._flight.source, upgrade=upgrade)

    def _wrong(self, index: int, why: str) -> None:
        self._statistics.count(self._kind, "wrong")
        if self._plain:  # it may have been changed on the way: it comes over TLS the next time, and then we know
            self._arrivals.complain(self._flight.source, index)
        else:
            self._arrivals.blame(self._flight.source, index)
        raise self._wrong_bytes(index, why)

    def _wrong_bytes(self, index: int, why: str) -> WrongBytesError:
        blob = self._arrivals.stored.blob.id
        return WrongBytesError(f"The bytes of chunk {index} of {blob} from {self._flight.source} {why}.")
