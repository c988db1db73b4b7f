"""Files put together from runs of a xorb's chunks: of xorbs that clients send, as they were packed, and of such as lie
unpacked in files of the store, because an earlier upload brought them.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, Protocol

from p2pmodel.content import Blob
from p2pmodel.content.xet import Term, XorbReader, unpack
from p2pmodel.delivery.ports import Spool, Store
from p2pmodel.errors import StoreError
from p2pmodel.limits import XET_CHUNKS_KEPT_MAX, XET_PLACES_MAX

ENTRY_COST: Final = 64  # what remembering a xorb takes beside its chunks, in chunks


class Chunks(Protocol):
    """Chunks of a xorb, from number `first` on. `offsets` say where each begins in what the xorb unpacks to, and where the
    last one ends."""

    @property
    def first(self) -> int: ...

    @property
    def offsets(self) -> array[int]: ...

    def read(self, buffer: memoryview, offset: int) -> None:
        """Blocking: fill it with what is there from that offset on. Raises StoreError."""


class Session(Protocol):
    """Whose packed xorbs are read. It keeps them while it has users."""

    users: int
    touched: float
    spool: Spool | None


@dataclass(frozen=True, slots=True)
class PackedXorb:
    """As it came: from `start` on in its session's file."""

    session: Session
    start: int
    reader: XorbReader = field(repr=False)
    first: int = 0

    @property
    def offsets(self) -> array[int]:
        return self.reader.offsets

    def read(self, buffer: memoryview, offset: int) -> None:
        done, index = 0, bisect_right(self.offsets, offset) - 1
        while done < len(buffer):
            chunk = self._chunk(index)[offset + done - self.offsets[index] :][: len(buffer) - done]
            buffer[done : done + len(chunk)] = chunk
            done += len(chunk)
            index += 1

    def _chunk(self, index: int) -> bytes:
        start, stop = self.reader.starts[index], self.reader.starts[index + 1]
        framed = memoryview(bytearray(stop - start))
        if self.session.spool is None or self.session.spool.read_into(framed, self.start + start) < len(framed):
            raise StoreError("An upload's own file has lost its end.")
        try:
            return unpack(framed)
        except ValueError as error:
            raise StoreError(f"A xorb cannot be read: {error}.") from None


@dataclass(frozen=True, slots=True)
class StoredChunks:
    """In a blob of the store, from its byte `start` on."""

    store: Store
    blob: Blob
    start: int
    first: int
    offsets: array[int] = field(repr=False)

    def read(self, buffer: memoryview, offset: int) -> None:
        state = self.store.find(self.blob.id)
        if state is None or not state.sealed:
            raise StoreError(f"{self.blob.id} is not here any more.")
        stored = self.store.open(state.blob, private=state.private)
        try:
            got = os.preadv(stored.fileno(), [buffer], self.start + offset - self.offsets[0])
        except OSError as error:
            raise StoreError(f"{self.blob.id} cannot be read: {error.strerror}.") from error
        finally:
            stored.close()
        if got < len(buffer):
            raise StoreError(f"{self.blob.id} has lost its end.")


@dataclass(frozen=True, slots=True)
class Run:
    """Chunks [first, stop) of the xorb of that name."""

    xorb: bytes
    chunks: Chunks
    first: int
    stop: int

    @classmethod
    def of(cls, term: Term, chunks: Chunks) -> Run:
        """Raises ValueError if the xorb is not as the term has it."""
        run = cls(term.xorb, chunks, term.first, term.stop)
        if not covers(chunks, term.first, term.stop) or run.size != term.size:
            raise ValueError("a run of chunks that is not as its xorb has it")
        return run

    @property
    def start(self) -> int:
        return self.chunks.offsets[self.first - self.chunks.first]

    @property
    def size(self) -> int:
        return self.chunks.offsets[self.stop - self.chunks.first] - self.start

    @property
    def offsets(self) -> array[int]:
        return self.chunks.offsets[self.first - self.chunks.first : self.stop - self.chunks.first + 1]


def covers(chunks: Chunks, first: int, stop: int) -> bool:
    return chunks.first <= first <= stop < chunks.first + len(chunks.offsets)


class Assembled:
    """A file as its runs make it: what `Intake` reads."""

    def __init__(self, blob: Blob, runs: Sequence[Run]) -> None:
        self.blob = blob
        self.runs = runs
        self.starts = list(accumulate((run.size for run in runs), initial=0))
        packed = (run.chunks for run in runs if isinstance(run.chunks, PackedXorb))
        self.sessions = list({id(chunks.session): chunks.session for chunks in packed}.values())

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Blocking."""
        done, at = 0, bisect_right(self.starts, offset) - 1
        while done < len(buffer) and at < len(self.runs):
            run, skip = self.runs[at], offset + done - self.starts[at]
            part = buffer[done : done + run.size - skip]
            if part:
                run.chunks.read(part, run.start + skip)
            done += len(part)
            at += 1
        return done


class StoredXorbs:
    """Which xorbs lie, unpacked, in files that came by Xet: hf_xet remembers them as well, and sends them no more. Until the
    daemon ends, so many, the last ones used."""

    def __init__(self, store: Store) -> None:
        self.bytes = 0
        self._store = store
        self._kept: OrderedDict[bytes, list[StoredChunks]] = OrderedDict()
        self._chunks = 0

    def remember(self, file: Assembled) -> None:
        """It is in the store now."""
        for run, start in zip(file.runs, file.starts, strict=False):
            kept = self._kept.setdefault(run.xorb, [])
            if len(kept) < XET_PLACES_MAX and self.find(run.xorb, run.first, run.stop) is None:
                chunks = StoredChunks(self._store, file.blob, start, run.first, run.offsets)
                kept.append(chunks)
                self._count(chunks, 1)
        while self._chunks > XET_CHUNKS_KEPT_MAX:
            for chunks in self._kept.popitem(last=False)[1]:
                self._count(chunks, -1)

    def find(self, xorb: bytes, first: int, stop: int) -> StoredChunks | None:
        """What holds all of these chunks, if its file is still there."""
        kept = self._kept.get(xorb, [])
        for chunks in [chunks for chunks in kept if covers(chunks, first, stop)]:
            state = self._store.find(chunks.blob.id)
            if state is not None and state.sealed:
                self._kept.move_to_end(xorb)
                return chunks
            kept.remove(chunks)
            self._count(chunks, -1)
        return None

    def _count(self, chunks: StoredChunks, times: int) -> None:
        self._chunks += times * (len(chunks.offsets) + ENTRY_COST)
        self.bytes += times * (chunks.offsets[-1] - chunks.offsets[0])
