"""A node's signed word for the digests of a run of chunks: it travels with the chunks, however many hands they go through.

It is bound to the blob, the chunks and the cluster's key, so there is nothing to replay it for; it is
not bound to a time, as what it says does not change. protocol/attestations.md has the bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Final

from p2pmodel.content.digest import Blob, BlobId
from p2pmodel.content.geometry import chunk_count
from p2pmodel.content.naming import NodeId, node_id_of
from p2pmodel.content.signature import is_signed
from p2pmodel.limits import ATTESTED_CHUNKS_MAX

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

CLUSTER_BYTES: Final = 8
_DIGEST_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_PREFIX: Final = b"p2pmodel attestation v1\0"
_HEAD: Final = struct.Struct(">8sB33sQIH32s")  # cluster, level, blob, size, first, count, signer
ATTESTATION_BYTES_MAX: Final = _HEAD.size + ATTESTED_CHUNKS_MAX * _DIGEST_BYTES + _SIGNATURE_BYTES


class Level(IntEnum):
    """What its signer did to know."""

    MIRROR = 0  # read the chunks from an upstream for which nobody vouches: a false one is nobody's lie
    WITNESS = 1  # read them from the hub
    CONFIRMED = 2  # held the whole blob and found its own hash right


class Refusal(StrEnum):
    """Why an attestation is not heard."""

    FORGED = "forged"  # the signature is not the signer's, or the bytes are no attestation
    OTHER_BLOB = "other_blob"  # replayed: it speaks of another blob, or of another size
    FOREIGN = "foreign_cluster"
    OLD_EPOCH = "old_epoch"  # of our cluster, under a key that was rotated out
    BANNED = "banned_signer"
    NOT_ITS_OWN = "not_its_own"  # of a voucher: shown by another than its signer


@dataclass(frozen=True, slots=True)
class Circle:
    """Within which words are heard. A cluster is known by its key's tag, and a rotated key has another: each is an epoch.
    We sign for `cluster`; `others` count as well; `past` ones did once."""

    cluster: bytes
    others: frozenset[bytes] = frozenset()
    past: frozenset[bytes] = frozenset()

    def __post_init__(self) -> None:
        if any(len(tag) != CLUSTER_BYTES for tag in self.accepted):
            raise ValueError(f"a cluster's tag has {CLUSTER_BYTES} bytes")

    @property
    def accepted(self) -> frozenset[bytes]:
        return self.others | {self.cluster}


@dataclass(frozen=True, slots=True)
class Attestation:
    """Chunks [first, first + count) of a blob have these digests. `signed` are the bytes under the signature."""

    blob: Blob
    first: int
    digests: bytes
    level: Level
    cluster: bytes
    signer: bytes
    signature: bytes

    @classmethod
    def sign(
        cls, blob: Blob, first: int, digests: bytes, level: Level, *, circle: Circle, key: Ed25519PrivateKey
    ) -> Attestation:
        signer = key.public_key().public_bytes_raw()
        unsigned = cls(blob, first, digests, level, circle.cluster, signer, b"")
        return cls(blob, first, digests, level, circle.cluster, signer, key.sign(_PREFIX + unsigned.signed))

    def __post_init__(self) -> None:
        count, odd = divmod(len(self.digests), _DIGEST_BYTES)
        if odd or not 1 <= count <= ATTESTED_CHUNKS_MAX or self.first + count > chunk_count(self.blob.size):
            raise ValueError(f"an attestation of {len(self.digests)} bytes of digests from chunk {self.first} of {self.blob}")

    @property
    def node(self) -> NodeId:
        return node_id_of(self.signer)

    @property
    def chunks(self) -> range:
        return range(self.first, self.first + len(self.digests) // _DIGEST_BYTES)

    @property
    def accountable(self) -> bool:
        """Whether a false digest is its signer's lie."""
        return self.level >= Level.WITNESS

    def digest(self, index: int) -> bytes:
        at = (index - self.first) * _DIGEST_BYTES
        return self.digests[at : at + _DIGEST_BYTES]

    def says(self, index: int, digest: bytes) -> bool:
        return index in self.chunks and self.digest(index) == digest

    @property
    def signed(self) -> bytes:
        count = len(self.digests) // _DIGEST_BYTES
        name, size = self.blob.id.to_bytes(), self.blob.size
        return _HEAD.pack(self.cluster, self.level, name, size, self.first, count, self.signer) + self.digests

    def to_bytes(self) -> bytes:
        return self.signed + self.signature

    @classmethod
    def take(cls, data: bytes) -> tuple[Attestation, bytes]:
        """The first of a list of attestations, and the rest. Raises ValueError for anything but whole, possible ones."""
        if len(data) < _HEAD.size:
            raise ValueError("an attestation is cut off in its head")
        cluster, level, name, size, first, count, signer = _HEAD.unpack_from(data)
        middle = _HEAD.size + count * _DIGEST_BYTES
        digests, signature = data[_HEAD.size : middle], data[middle : middle + _SIGNATURE_BYTES]
        if len(signature) != _SIGNATURE_BYTES:
            raise ValueError("an attestation is cut off")
        word = cls(Blob(BlobId.from_bytes(name), size), first, digests, Level(level), cluster, signer, signature)
        return word, data[middle + _SIGNATURE_BYTES :]

    @classmethod
    def take_all(cls, data: bytes) -> list[Attestation]:
        """Raises ValueError as `take`."""
        words = []
        while data:
            word, data = cls.take(data)
            words.append(word)
        return words

    def refusal(self, blob: Blob, circle: Circle) -> Refusal | None:
        """Why it is not to be heard of this blob in this circle; None if it is. The signature, which costs most, comes last."""
        if self.blob != blob:
            return Refusal.OTHER_BLOB
        if self.cluster not in circle.accepted:
            return Refusal.OLD_EPOCH if self.cluster in circle.past else Refusal.FOREIGN
        return None if is_signed(self.signer, self.signature, _PREFIX + self.signed) else Refusal.FORGED
