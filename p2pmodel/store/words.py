"""The signed words beside a partial blob's record: with them a chunk that came on another node's word can be handed on, and
that node be held to it, after a restart too.

Each stands behind a checksum that is seeded by the record's header, so that none of another blob passes; a torn or damaged one
ends the file. A word is durable before the record claims its chunk. What was lost, or found no room, costs handing those
chunks on, and nothing else: the blob's own hash decides in the end.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from p2pmodel.content import Attestation, Blob, chunk_count
from p2pmodel.content.attestation import ATTESTATION_BYTES_MAX
from p2pmodel.errors import StoreError
from p2pmodel.limits import WORDS_KEPT_PER_CHUNK_MAX
from p2pmodel.store.appended import AppendedFile
from p2pmodel.store.disk import Disk, disk_errors
from p2pmodel.store.record import header

_CHECKSUM: Final = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Kept:
    words: Sequence[Attestation] = ()  # oldest first
    length: int = 0  # bytes of the file that can be believed


def packed(blob: Blob, word: Attestation) -> bytes:
    data = word.to_bytes()
    return _CHECKSUM.pack(zlib.crc32(data, zlib.crc32(header(blob)))) + data


def bytes_max(blob: Blob) -> int:
    return chunk_count(blob.size) * WORDS_KEPT_PER_CHUNK_MAX * (_CHECKSUM.size + ATTESTATION_BYTES_MAX)


def parse(blob: Blob, data: bytes) -> Kept:
    words, seed, at = [], zlib.crc32(header(blob)), 0
    while at + _CHECKSUM.size < len(data):
        (checksum,) = _CHECKSUM.unpack_from(data, at)
        rest = data[at + _CHECKSUM.size : at + _CHECKSUM.size + ATTESTATION_BYTES_MAX]
        try:
            word, beyond = Attestation.take(rest)
        except ValueError:
            break
        size = len(rest) - len(beyond)
        if word.blob != blob or checksum != zlib.crc32(rest[:size], seed):
            break
        words.append(word)
        at += _CHECKSUM.size + size
    return Kept(words, at)


def read(path: Path, blob: Blob) -> Kept:
    """What a disk does not give back is lost, and no reason not to open the blob."""
    try:
        with disk_errors("reading words"), path.open("rb") as file:
            return parse(blob, file.read(bytes_max(blob)))
    except StoreError:
        return Kept()


class WordsFile:
    """Open for appending. `kept` is what was read of it."""

    def __init__(self, disk: Disk, path: Path, blob: Blob, kept: Kept) -> None:
        self._file = AppendedFile(disk, path, kept.length)
        self._blob = blob
        self._kept = {word.signature for word in kept.words}
        self.move, self.remove, self.close = self._file.move, self._file.remove, self._file.close

    def append(self, words: Iterable[Attestation]) -> None:
        """Those that are not here yet, as long as there is room: who signs each chunk anew shall not fill the disk."""
        new = {word.signature: word for word in words if word.signature not in self._kept}
        data = b"".join(packed(self._blob, word) for word in new.values())
        if data and self._file.length + len(data) <= bytes_max(self._blob):
            self._file.append(data)
            self._kept |= new.keys()
