"""The record beside a partial blob: which of its chunks are durable, and what they must hash to.

A header names format, blob and size; fixed-size entries follow, each with a checksum seeded by the header's, so that no
entry of another file or another blob passes. An entry that is torn or damaged ends the record: what stands before it was
synced earlier. The last entry of a chunk counts; one without a grade takes the chunk back.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from p2pmodel.content import Blob, BlobId, Grade, chunk_count
from p2pmodel.store.appended import AppendedFile
from p2pmodel.store.disk import Disk, disk_errors

_MAGIC: Final = b"p2pmrec1"
_HEADER: Final = struct.Struct(">8s33sQ")
_ENTRY: Final = struct.Struct(">I32sB")
_CHECKSUM: Final = struct.Struct(">I")
HEADER_BYTES: Final = _HEADER.size + _CHECKSUM.size
ENTRY_BYTES: Final = _ENTRY.size + _CHECKSUM.size
# What the members vouch for is a matter of the moment, and is not recorded.
_GRADES: Final[Mapping[int, Grade | None]] = {0: None, 1: Grade.SINGLE, 2: Grade.OWN, 3: Grade.MIRROR, 4: Grade.ROOT}
_GRADE_BYTES: Final = {grade: byte for byte, grade in _GRADES.items()}
_NO_DIGEST: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Claim:
    """What the record says of one chunk."""

    digest: bytes
    grade: Grade


@dataclass(frozen=True, slots=True)
class Recorded:
    blob: Blob
    claims: Mapping[int, Claim]
    length: int  # bytes of the file that can be believed


def header(blob: Blob) -> bytes:
    fields = _HEADER.pack(_MAGIC, blob.id.to_bytes(), blob.size)
    return fields + _CHECKSUM.pack(zlib.crc32(fields))


def entry(blob: Blob, index: int, claim: Claim | None) -> bytes:
    """One chunk's entry; without a claim it is taken back."""
    digest, grade = (claim.digest, claim.grade) if claim else (_NO_DIGEST, None)
    fields = _ENTRY.pack(index, digest, _GRADE_BYTES[grade])
    return fields + _CHECKSUM.pack(zlib.crc32(fields, zlib.crc32(header(blob))))


def parse(data: bytes) -> Recorded | None:
    """None unless the header is whole and right."""
    if len(data) < HEADER_BYTES:
        return None
    magic, name, size = _HEADER.unpack_from(data)
    try:
        blob = Blob(BlobId.from_bytes(name), size)
    except ValueError:
        return None
    if magic != _MAGIC or data[:HEADER_BYTES] != header(blob):
        return None
    claims: dict[int, Claim] = {}
    seed, chunks, at = zlib.crc32(data[:HEADER_BYTES]), chunk_count(size), HEADER_BYTES
    while at + ENTRY_BYTES <= len(data):
        index, digest, grade_byte = _ENTRY.unpack_from(data, at)
        (checksum,) = _CHECKSUM.unpack_from(data, at + _ENTRY.size)
        right = checksum == zlib.crc32(data[at : at + _ENTRY.size], seed)
        if not right or index >= chunks or grade_byte not in _GRADES:
            break
        grade = _GRADES[grade_byte]
        if grade is None:
            claims.pop(index, None)
        else:
            claims[index] = Claim(digest, grade)
        at += ENTRY_BYTES
    return Recorded(blob, claims, at)


def read(path: Path) -> Recorded | None:
    """None if there is no record, or none that can be believed."""
    with disk_errors("reading a record"):
        try:
            return parse(path.read_bytes())
        except FileNotFoundError:
            return None


class RecordFile:
    """A record open for appending. Made with its first entries: a blob that is finished at once never needs one."""

    def __init__(self, disk: Disk, path: Path, blob: Blob, *, length: int = 0) -> None:
        self._file = AppendedFile(disk, path, length)
        self._blob = blob
        self.move, self.remove, self.close = self._file.move, self._file.remove, self._file.close

    def append(self, claims: Iterable[tuple[int, Claim | None]]) -> None:
        """Durable when this returns; if it raises, what was recorded before still stands."""
        new = b"".join(entry(self._blob, index, claim) for index, claim in claims)
        self._file.append(new if self._file.length else header(self._blob) + new)
