"""Names of blobs and digests of chunks: parsed once, compared as values, never handled as loose strings."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final, Literal, cast

import blake3

from p2pmodel.limits import BLOB_BYTES_MAX

Algorithm = Literal["sha256", "git-sha1"]
Bytes = bytes | bytearray | memoryview

_HEX: Final = re.compile(r"[0-9a-f]+")
_HEX_CHARS: Final[dict[str, int]] = {"sha256": 64, "git-sha1": 40}
_TAGS: Final[dict[str, int]] = {"sha256": 1, "git-sha1": 2}
_WIRE_BYTES: Final = 33  # tag and hash, sha1 padded: a fixed size lets lists of ids travel as one bin


@dataclass(frozen=True, slots=True, order=True)
class BlobId:
    """A blob's name: the hash by which its hub vouches for it. Printed as ``sha256:<hex>`` or ``git-sha1:<hex>``."""

    algorithm: Algorithm
    hex: str

    def __post_init__(self) -> None:
        chars = _HEX_CHARS.get(self.algorithm)
        if chars is None or len(self.hex) != chars or not _HEX.fullmatch(self.hex):
            raise ValueError(f"not a blob name: {self.algorithm}:{self.hex[:80]!r}")

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    @classmethod
    def parse(cls, text: str) -> BlobId:
        """Read ``algorithm:hex``. Raises ValueError for anything else."""
        algorithm, _, digits = text.partition(":")
        return cls(cast("Algorithm", algorithm), digits)

    def to_bytes(self) -> bytes:
        """33 bytes: a tag, then the hash, padded with zeros."""
        return bytes([_TAGS[self.algorithm]]) + bytes.fromhex(self.hex).ljust(32, b"\0")

    @classmethod
    def from_bytes(cls, data: bytes) -> BlobId:
        """Raises ValueError unless these are the 33 bytes of `to_bytes`."""
        if len(data) != _WIRE_BYTES:
            raise ValueError(f"a blob name takes {_WIRE_BYTES} bytes, not {len(data)}")
        for algorithm, tag in _TAGS.items():
            if data[0] == tag:
                size = _HEX_CHARS[algorithm] // 2
                if any(data[1 + size :]):
                    raise ValueError("a blob name is padded with zeros")
                return cls(cast("Algorithm", algorithm), data[1 : 1 + size].hex())
        raise ValueError(f"unknown hash tag {data[0]}")


@dataclass(frozen=True, slots=True, order=True)
class Blob:
    """A blob as a hub states it: name and size in bytes."""

    id: BlobId
    size: int

    def __post_init__(self) -> None:
        if not 0 <= self.size <= BLOB_BYTES_MAX:
            raise ValueError(f"a blob of {self.size} bytes is outside 0 … {BLOB_BYTES_MAX}")

    def __str__(self) -> str:
        return f"{self.id} ({self.size} bytes)"


class BlobHasher:
    """Computes a blob's own hash from its bytes in order."""

    def __init__(self, algorithm: Algorithm, size: int) -> None:
        self._algorithm = algorithm
        self._hash = hashlib.sha256() if algorithm == "sha256" else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)

    def update(self, data: Bytes) -> None:
        self._hash.update(data)

    def id(self) -> BlobId:
        """The name of the bytes so far."""
        return BlobId(self._algorithm, self._hash.hexdigest())


def chunk_digest(data: Bytes) -> bytes:
    """BLAKE3-256 of a chunk: 32 bytes."""
    return blake3.blake3(data).digest()
