"""Xet's read protocol over plain files: what a client asks of a content-addressed storage, answered from a file's bytes.

Xet keeps a file as a list of terms, each a run of chunks of a xorb. We let a file's own bytes be its xorbs: stretches of
XORB_BYTES, cut into chunks of CHUNK_BYTES which are not compressed, each behind its eight bytes of head. So nothing is
stored twice, and any byte range of a xorb is computed from the same range of the file. The names are ours: clients use them
to ask and to keep apart what they cache, and check lengths only. (That our bytes are right is proven before they leave, as
for every other answer.) The same cut for ever: clients cache by these names.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Any, Final

from p2pmodel.limits import KIB, MIB

CHUNK_BYTES: Final = 128 * KIB  # the largest that Xet allows
HEAD_BYTES: Final = 8
XORB_BYTES: Final = 16 * MIB  # what one request asks for: it has to be proven before its first byte leaves (Xet allows 64)
FRAME_BYTES: Final = HEAD_BYTES + CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class Xorb:
    """Stretch number `number` of the file of `size` bytes whose bytes are named `file` (64 hex digits)."""

    file: str
    size: int
    number: int

    @property
    def start(self) -> int:
        """Where in the file it begins."""
        return self.number * XORB_BYTES

    @property
    def length(self) -> int:
        """Bytes of the file in it."""
        return min(XORB_BYTES, self.size - self.start)

    @property
    def framed_length(self) -> int:
        return self.length + HEAD_BYTES * -(-self.length // CHUNK_BYTES)

    @property
    def name(self) -> str:
        return hashlib.sha256(f"p2pmodel xorb {self.file} {self.number}".encode()).hexdigest()

    def term(self, start: int, stop: int, url: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The chunks that bytes [start, stop) of the file touch, as a term and as the place where they are."""
        first, last = (start - self.start) // CHUNK_BYTES, -(-(stop - self.start) // CHUNK_BYTES)
        chunks = {"start": first, "end": last}
        unpacked = min(last * CHUNK_BYTES, self.length) - first * CHUNK_BYTES
        framed = {"start": first * FRAME_BYTES, "end": min(last * FRAME_BYTES, self.framed_length) - 1}
        term = {"hash": self.name, "unpacked_length": unpacked, "range": chunks}
        return term, {"range": chunks, "url": url, "url_range": framed}

    def covering(self, start: int, stop: int) -> tuple[int, int]:
        """The stretch of the file whose chunks hold bytes [start, stop) of the framed xorb."""
        first, last = start // FRAME_BYTES, -(-stop // FRAME_BYTES)
        return self.start + first * CHUNK_BYTES, self.start + min(last * CHUNK_BYTES, self.length)


def reconstruction(file: str, size: int, start: int, stop: int, base_url: str) -> dict[str, Any]:
    """How bytes [start, stop) of a file come out of its xorbs, as `/v1/reconstructions` says it. Their URLs are
    `base_url`/number. All of what was asked: clients go on where they think that they are (a terabyte takes 20 MB to tell)."""
    terms, places = [], {}
    for number in range(start // XORB_BYTES, -(-stop // XORB_BYTES)):
        xorb = Xorb(file, size, number)
        inside = max(start, xorb.start), min(stop, xorb.start + xorb.length)
        term, place = xorb.term(*inside, f"{base_url}/{number}")
        terms.append(term)
        places[xorb.name] = [place]
    return {"offset_into_first_range": start % CHUNK_BYTES, "terms": terms, "fetch_info": places}


class Framer:
    """Puts a head before each chunk of a stretch of a file that begins at a chunk's begin and comes in pieces."""

    def __init__(self, length: int) -> None:
        self._left = length  # of the stretch
        self._kept = bytearray()

    def frame(self, piece: bytes) -> bytes:
        """The frames that are complete now."""
        self._kept += piece
        framed = bytearray()
        at = 0
        while self._left and len(self._kept) - at >= (size := min(CHUNK_BYTES, self._left)):
            framed += _head(size)
            framed += self._kept[at : at + size]
            at += size
            self._left -= size
        del self._kept[:at]
        return bytes(framed)


def _head(size: int) -> bytes:
    """Version 0, the packed length, scheme 0 (not packed), the length."""
    length = struct.pack("<I", size)[:3]
    return b"\0" + length + b"\0" + length
