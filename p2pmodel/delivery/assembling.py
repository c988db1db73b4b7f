"""Files put together from runs of a xorb's chunks: of xorbs that clients send, as they were packed, and of such as lie
unpacked in files of the store, because an earlier upload brought them.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import le
from typing import Final, Protocol

import msgspec

from p2pmodel.content import Blob, BlobId
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
    """Which xorbs lie, unpacked, in files that came by Xet: hf_xet remembers them as well, and sends them no more. The store
    remembers all, the memory so many, the last ones used."""

    def __init__(self, store: Store) -> None:
        self.bytes = 0
        self._store = store
        self._kept: OrderedDict[bytes, list[StoredChunks]] = OrderedDict()
        self._chunks = 0

    def add(self, file: Assembled) -> dict[bytes, bytes]:
        """It is in the store now: xorbs of which something new is known, and what to `keep` of them."""
        new = set()
        for run, start in zip(file.runs, file.starts, strict=False):
            if len(self._kept.get(run.xorb, ())) < XET_PLACES_MAX and self.find(run.xorb, run.first, run.stop) is None:
                self._put(run.xorb, StoredChunks(self._store, file.blob, start, run.first, run.offsets))
                new.add(run.xorb)
        told = {xorb: _encode(self._kept[xorb]) for xorb in new}
        self._make_room()
        return told

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

    def knows(self, xorb: bytes) -> bool:
        return xorb in self._kept

    def learn(self, recalled: Mapping[bytes, Sequence[StoredChunks]]) -> None:
        for xorb, places in recalled.items():
            if xorb not in self._kept:
                for chunks in places:
                    self._put(xorb, chunks)
        self._make_room()

    # In the store; blocking

    def keep(self, told: Mapping[bytes, bytes]) -> None:
        """Raises StoreError."""
        for xorb, document in told.items():
            self._store.put_document(_key(xorb), document)

    def recall(self, xorbs: Iterable[bytes]) -> dict[bytes, list[StoredChunks]]:
        """What an earlier run has kept, to be `learn`t. Raises StoreError."""
        found = {xorb: self._store.document(_key(xorb)) for xorb in xorbs}
        return {xorb: list(self._decoded(document)) for xorb, document in found.items() if document}

    def _decoded(self, document: bytes) -> Iterator[StoredChunks]:
        try:
            for place in msgspec.json.decode(document, type=list[_Place])[:XET_PLACES_MAX]:
                blob = Blob(BlobId("sha256", place.sha256), place.size)
                offsets = array("I", place.offsets)
                if min(place.start, place.first) >= 0 and all(map(le, offsets, offsets[1:])) and len(offsets):
                    yield StoredChunks(self._store, blob, place.start, place.first, offsets)
        except (ValueError, RecursionError):
            return  # another version's

    def _put(self, xorb: bytes, chunks: StoredChunks) -> None:
        self._kept.setdefault(xorb, []).append(chunks)
        self._count(chunks, 1)

    def _make_room(self) -> None:
        while self._chunks > XET_CHUNKS_KEPT_MAX:
            for chunks in self._kept.popitem(last=False)[1]:
                self._count(chunks, -1)

    def _count(self, chunks: StoredChunks, times: int) -> None:
        self._chunks += times * (len(chunks.offsets) + ENTRY_COST)
        self.bytes += times * (chunks.offsets[-1] - chunks.offsets[0])


class _Place(msgspec.Struct):
    """As it is kept; `offsets` are the array's bytes."""

    sha256: str
    size: int
    start: int
    first: int
    offsets: bytes


def _encode(places: Sequence[StoredChunks]) -> bytes:
    rows = [_Place(at.blob.id.hex, at.blob.size, at.start, at.first, at.offsets.tobytes()) for at in places]
    return msgspec.json.encode(rows)


def _key(xorb: bytes) -> str:
    return f"xet-xorb {xorb.hex()}"
