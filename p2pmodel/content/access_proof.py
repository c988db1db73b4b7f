"""Showing that one can read a blob at its hub, without its bytes, its name or a token on the wire (protocol/private.md).

All who may read a blob can read the same few ranges of it, chosen by a key of the cluster. Their hash is the evidence; a
proof is the evidence keyed to who shows it to whom, so that nobody can show another's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import blake3

from p2pmodel.content.digest import Blob, BlobId
from p2pmodel.content.naming import NodeId
from p2pmodel.limits import KIB, MIB

RANGES: Final = 4
RANGE_BYTES: Final = 16 * KIB
PROVABLE_BYTES_MIN: Final = MIB  # below, the evidence would be a good part of the file: the hub is asked for it

_NAME: Final = "p2pmodel private blob name v1"
_RANGE: Final = "p2pmodel private blob range v1"
_EVIDENCE: Final = "p2pmodel private blob evidence v1"


def secret_name(blob: BlobId, key: bytes) -> bytes:
    """What a private blob is called before it is known that the other end knows it."""
    return _keyed(_NAME, key, blob.to_bytes())


def proof_ranges(blob: Blob, key: bytes) -> list[tuple[int, int]]:
    """The ranges [start, stop) that are the evidence. Raises ValueError for a blob that is too small."""
    if blob.size < PROVABLE_BYTES_MIN:
        raise ValueError(f"a blob of {blob.size} bytes is too small to prove")
    starts = []
    for number in range(RANGES):
        digest = _keyed(_RANGE, key, blob.id.to_bytes() + bytes([number]))
        starts.append(int.from_bytes(digest[:16], "big") % (blob.size - RANGE_BYTES + 1))
    return [(start, start + RANGE_BYTES) for start in starts]


def evidence_of(pieces: Iterable[bytes]) -> bytes:
    """32 bytes that stand for the ranges' own."""
    return blake3.blake3(b"".join(pieces), derive_key_context=_EVIDENCE).digest()


def prove(evidence: bytes, blob: BlobId, *, prover: NodeId, verifier: NodeId) -> bytes:
    return blake3.blake3(prover.encode() + b"\0" + verifier.encode() + b"\0" + blob.to_bytes(), key=evidence).digest()


def _keyed(purpose: str, key: bytes, data: bytes) -> bytes:
    return blake3.blake3(data, key=blake3.blake3(key, derive_key_context=purpose).digest()).digest()
