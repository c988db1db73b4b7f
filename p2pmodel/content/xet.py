"""Xet's two upload formats, read as they stream by (huggingface.co/docs/xet/xorb and /shard): xorbs, which are runs of packed
chunks, and shards, which say how files are made of them. Nothing is held but where things lie.

What cannot be read raises ValueError; it is the hub that has to read it, we only want a copy.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Final

import lz4.frame

from p2pmodel.limits import XET_CHUNK_BYTES_MAX, XET_PACKED_BYTES_MAX, XET_SHARD_TERMS_MAX, XET_XORB_CHUNKS_MAX

HEAD_BYTES: Final = 8
_UNPACKED_BYTES_MAX: Final = (1 << 32) - 1  # as the arrays of places have it; 64 MiB by the specification
_PLAIN, _LZ4, _GROUPED_LZ4 = range(3)

_ENTRY: Final = struct.Struct("<32sIIII")  # everything in a shard is a multiple of it
_SHARD_TAG: Final = b"HFRepoMetaData\0"
_BOOKEND: Final = b"\xff" * 32
_WITH_VERIFICATION: Final = 1 << 31
_WITH_METADATA: Final = 1 << 30


def xet_text(data: bytes) -> str:
    """A Xet hash in writing: four little-endian numbers."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", data))


def xet_bytes(text: str) -> bytes:
    """The other way round. Raises ValueError."""
    data = bytes.fromhex(text)
    if len(data) != 32:  # noqa: PLR2004  # as its four numbers take
        raise ValueError("a Xet hash has 64 digits")
    return struct.pack("<4Q", *struct.unpack(">4Q", data))


# Xorbs


@dataclass(frozen=True, slots=True)
class _Head:
    packed: int
    scheme: int
    size: int

    @classmethod
    def read(cls, data: bytes | bytearray | memoryview) -> _Head:
        packed, size = int.from_bytes(data[1:4], "little"), int.from_bytes(data[5:8], "little")
        if data[0] != 0 or data[4] not in {_PLAIN, _LZ4, _GROUPED_LZ4}:
            raise ValueError("a chunk of a kind that is not known here")
        if packed > XET_PACKED_BYTES_MAX or size > XET_CHUNK_BYTES_MAX:
            raise ValueError("a chunk that is too long")
        return cls(packed, data[4], size)


class XorbReader:
    """Finds the chunks of a xorb while its bytes come by. `starts` are where their heads lie and where the last one ends,
    `offsets` the same of what they hold, unpacked and one after the other."""

    def __init__(self) -> None:
        self.starts = array("I", [0])
        self.offsets = array("I", [0])
        self._at = 0  # bytes seen
        self._head = bytearray()
        self._over = False  # what follows is a footer

    def feed(self, data: bytes) -> None:
        """Raises ValueError."""
        stop = self._at + len(data)
        while not self._over and (wanted := self.starts[-1] + len(self._head)) < stop:
            self._head += data[wanted - self._at :][: HEAD_BYTES - len(self._head)]
            self._over = self._head[0] != 0
            if len(self._head) == HEAD_BYTES and not self._over:
                self._add(_Head.read(self._head))
        self._at = stop

    def _add(self, head: _Head) -> None:
        if len(self.offsets) > XET_XORB_CHUNKS_MAX or self.offsets[-1] + head.size > _UNPACKED_BYTES_MAX:
            raise ValueError("a xorb of too many chunks")
        self.offsets.append(self.offsets[-1] + head.size)
        self.starts.append(self.starts[-1] + HEAD_BYTES + head.packed)
        self._head.clear()

    @property
    def whole(self) -> bool:
        """Whether the last chunk has come to its end."""
        return self._over or self.starts[-1] == self._at


def unpack(framed: memoryview) -> bytes:
    """A chunk, from its head and what follows up to the next. Raises ValueError."""
    head = _Head.read(framed)
    data = framed[HEAD_BYTES:]
    if len(data) != head.packed:
        raise ValueError("a chunk that ends early")
    chunk = bytes(data) if head.scheme == _PLAIN else _decompressed(data, head.size)
    if len(chunk) != head.size:
        raise ValueError("a chunk of another length than its head says")
    return _ungrouped(chunk) if head.scheme == _GROUPED_LZ4 else chunk


def _decompressed(data: memoryview, size: int) -> bytes:
    """Never more than a byte too many."""
    reader = lz4.frame.LZ4FrameDecompressor()
    try:
        chunk: bytes = reader.decompress(data, max_length=size + 1)
    except (RuntimeError, EOFError) as error:
        raise ValueError(f"a chunk that cannot be unpacked: {error}") from None
    return chunk


def _ungrouped(data: bytes) -> bytes:
    """The first bytes of all fours stand together, then the second ones, …: in order again."""
    out, at = bytearray(len(data)), 0
    for place in range(4):
        count = (len(data) + 3 - place) // 4
        out[place::4] = data[at : at + count]
        at += count
    return bytes(out)


# Shards


@dataclass(frozen=True, slots=True)
class Term:
    """Chunks [first, stop) of a xorb, `size` bytes unpacked."""

    xorb: bytes
    first: int
    stop: int
    size: int


@dataclass(frozen=True, slots=True)
class XetFile:
    """A file as a shard tells it. `sha256` (hex) is what its uploader says; `entries` are its terms, as they stood there."""

    sha256: str
    entries: bytes

    def terms(self) -> Iterator[Term]:
        for xorb, _flags, size, first, stop in _ENTRY.iter_unpack(self.entries):
            yield Term(xorb, first, stop, size)

    @property
    def size(self) -> int:
        return sum(size for _, _, size, _, _ in _ENTRY.iter_unpack(self.entries))


class ShardReader:
    """Finds the files of a shard while its bytes come by; what follows them (the chunks of its xorbs) passes unread."""

    def __init__(self) -> None:
        self.files: list[XetFile] = []
        self.whole = False  # all of them have come
        self._kept = bytearray()
        self._room = XET_SHARD_TERMS_MAX
        self._reading = self._read()
        next(self._reading)

    def feed(self, data: bytes) -> None:
        """Raises ValueError."""
        if self.whole:
            return
        self._kept += data
        end = len(self._kept) - len(self._kept) % _ENTRY.size
        entries, self._kept = bytes(self._kept[:end]), self._kept[end:]
        for at in range(0, end, _ENTRY.size):
            try:
                self._reading.send(entries[at : at + _ENTRY.size])
            except StopIteration:
                self.whole = True
                self._kept.clear()
                return

    def _read(self) -> Generator[None, bytes, None]:
        """Takes an entry at a time."""
        if not (yield).startswith(_SHARD_TAG):
            raise ValueError("this is no shard")
        while (head := _ENTRY.unpack((yield)))[0] != _BOOKEND:
            _, flags, count, _, _ = head
            self._room -= count + 1
            if self._room < 0:
                raise ValueError("a shard of too many terms")
            entries = bytearray()
            for _ in range(count):
                entries += yield
            for _ in range(count if flags & _WITH_VERIFICATION else 0):
                yield
            if flags & _WITH_METADATA:
                sha256 = _ENTRY.unpack((yield))[0]
                self.files.append(XetFile(xet_text(sha256), bytes(entries)))
