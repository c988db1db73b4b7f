"""Xet's tree over a file (huggingface.co/docs/xet/hashing). The file is cut into pieces of some 64 KiB, each has a hash, and
hashes are merged by threes to nines, up to one root, which the hub tells as `X-Xet-Hash`. Who has the root from the hub can
check a list of pieces from anybody, and with the list any of the file's bytes, long before the whole is there.

A list is bytes: 36 for a piece, its hash and its length. So it lies on disk and travels, and any part of it is a slice.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

import blake3

from p2pmodel.content.digest import Bytes
from p2pmodel.limits import XET_CHUNK_BYTES_MAX

_ENTRY: Final = struct.Struct("<32sI")
PIECE_ENTRY_BYTES: Final = _ENTRY.size

# The specification's keys: for what is hashed of the file, and for what is hashed of hashes.
_DATA_KEY: Final = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
_NODE_KEY: Final = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
_ROOT_KEY: Final = bytes(32)

_HASH_BYTES: Final = 32
_MERGED_MIN, _MERGED_MAX = 3, 9
_LINES_AT_ONCE: Final = 4096
_JUDGE: Final = 24  # the hash's lowest byte as the specification counts: if 4 divides it, those merged end with it
_ENDS: Final = bytes(byte % 4 == 0 for byte in range(256))


def piece_hash(data: Bytes) -> bytes:
    """Of a piece's bytes: 32 bytes."""
    return blake3.blake3(data, key=_DATA_KEY).digest()


def piece_entry(data: Bytes) -> bytes:
    """What a list says of a piece with these bytes."""
    return _ENTRY.pack(piece_hash(data), len(data))


@dataclass(frozen=True, slots=True)
class PieceList:
    """A file's pieces in order. `starts` are where they begin and where the last one ends."""

    entries: bytes
    starts: array[int] = field(repr=False, compare=False)

    @classmethod
    def read(cls, entries: bytes) -> PieceList:
        """Raises ValueError for what cannot be a list. Whether it is the file's says `root`."""
        if len(entries) % PIECE_ENTRY_BYTES:
            raise ValueError(f"a list of pieces of {len(entries)} bytes")
        lengths = [length for _, length in _ENTRY.iter_unpack(entries)]
        if lengths and not 0 < min(lengths) <= max(lengths) <= XET_CHUNK_BYTES_MAX:
            raise ValueError("a piece of a length that no piece has")
        return cls(entries, array("Q", accumulate(lengths, initial=0)))

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def size(self) -> int:
        """The file's, in bytes."""
        return self.starts[-1]

    def hash(self, piece: int) -> bytes:
        start = piece * PIECE_ENTRY_BYTES
        return self.entries[start : start + _HASH_BYTES]

    def overlapping(self, start: int, stop: int) -> range:
        """The pieces that have some of the file's bytes [start, stop)."""
        stop = min(stop, self.size)
        if stop <= start:
            return range(0)
        return range(bisect_right(self.starts, start) - 1, bisect_left(self.starts, stop))

    def check(self, first: int, data: Bytes) -> int | None:
        """The first wrong one of the pieces whose bytes these are, from piece `first` on; None if all are right. Raises
        ValueError for bytes that do not end where a piece ends: some of them would go unchecked."""
        start, view = self.starts[first], memoryview(data)
        stop = bisect_left(self.starts, start + len(view))
        if stop > len(self) or self.starts[stop] != start + len(view):
            raise ValueError(f"{len(view)} bytes from piece {first} on do not end where a piece ends")
        for piece in range(first, stop):
            if piece_hash(view[self.starts[piece] - start : self.starts[piece + 1] - start]) != self.hash(piece):
                return piece
        return None

    def root(self) -> bytes:
        """The file's Xet hash, if these are its pieces: 32 bytes. A second for a million pieces (64 GiB): for a thread."""
        if not self.entries:
            return bytes(_HASH_BYTES)
        hashes, sizes = bytearray(), array("Q")
        for hash_, size in _ENTRY.iter_unpack(self.entries):
            hashes += hash_
            sizes.append(size)
        while len(sizes) > 1:
            hashes, sizes = _merged(hashes, sizes)
        return blake3.blake3(hashes, key=_ROOT_KEY).digest()


def _merged(hashes: bytearray, sizes: array[int]) -> tuple[bytearray, array[int]]:
    """The next level of the tree."""
    ends = hashes[_JUDGE::_HASH_BYTES].translate(_ENDS)
    merged, sums = bytearray(), array("Q")
    start = base = 0
    lines: list[str] = []  # of some nodes, from `base` on: those of all would be 150 MB
    while start < len(sizes):
        last = ends.find(1, start + _MERGED_MIN - 1, start + _MERGED_MAX)
        stop = start + _MERGED_MAX if last < 0 else last + 1
        if stop > base + len(lines):
            base, lines = start, _lines(hashes, sizes, range(start, start + _LINES_AT_ONCE))
        merged += blake3.blake3("".join(lines[start - base : stop - base]).encode(), key=_NODE_KEY).digest()
        sums.append(sum(sizes[start:stop]))
        start = stop
    return merged, sums


def _lines(hashes: bytearray, sizes: array[int], nodes: range) -> list[str]:
    """Nodes as the specification writes them: a hash as four little-endian numbers, and its size."""
    numbers = array("Q", hashes[_HASH_BYTES * nodes.start : _HASH_BYTES * nodes.stop])
    numbers.byteswap()
    digits = numbers.tobytes().hex()
    return [f"{digits[64 * n : 64 * n + 64]} : {size}\n" for n, size in enumerate(sizes[nodes.start : nodes.stop])]
