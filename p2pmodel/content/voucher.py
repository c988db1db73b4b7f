"""A member's seal, said in its cluster's name to whoever asks it: what may let bytes leave before our own check of the file.

A `Seal` is bound to nothing but the bytes, so it may go through any hands. A voucher counts as one vote of its signer, so it
names the cluster's key as well and is heard from nobody else. protocol/manifest.md has the bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from p2pmodel.content.attestation import Circle, Refusal
from p2pmodel.content.digest import Blob, BlobId
from p2pmodel.content.naming import NodeId, node_id_of
from p2pmodel.content.signature import is_signed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_PREFIX: Final = b"p2pmodel voucher v1\0"
_BODY: Final = struct.Struct(">8s33sQ32s32s")  # cluster, blob, size, root, signer
_SIGNATURE_BYTES: Final = 64
VOUCHER_BYTES: Final = _BODY.size + _SIGNATURE_BYTES


@dataclass(frozen=True, slots=True)
class Voucher:
    """Its signer holds the whole blob, found the blob's own hash right, and the chunks' digests have this root."""

    blob: Blob
    root: bytes  # of the manifest, 32 bytes
    cluster: bytes
    signer: bytes
    signature: bytes

    @classmethod
    def sign(cls, blob: Blob, root: bytes, *, circle: Circle, key: Ed25519PrivateKey) -> Voucher:
        unsigned = cls(blob, root, circle.cluster, key.public_key().public_bytes_raw(), b"")
        return replace(unsigned, signature=key.sign(_PREFIX + unsigned.body))

    @property
    def node(self) -> NodeId:
        return node_id_of(self.signer)

    @property
    def body(self) -> bytes:
        return _BODY.pack(self.cluster, self.blob.id.to_bytes(), self.blob.size, self.root, self.signer)

    def to_bytes(self) -> bytes:
        return self.body + self.signature

    @classmethod
    def from_bytes(cls, data: bytes) -> Voucher:
        """Raises ValueError for what is none."""
        if len(data) != VOUCHER_BYTES:
            raise ValueError(f"a voucher of {len(data)} bytes")
        cluster, name, size, root, signer = _BODY.unpack_from(data)
        return cls(Blob(BlobId.from_bytes(name), size), root, cluster, signer, data[_BODY.size :])

    def refusal(self, blob: Blob, giver: NodeId, circle: Circle) -> Refusal | None:
        """Why it does not count for this blob when `giver` shows it; None if it does. The costly signature comes last."""
        if self.blob != blob:
            return Refusal.OTHER_BLOB
        if self.node != giver:
            return Refusal.NOT_ITS_OWN
        if self.cluster not in circle.accepted:
            return Refusal.OLD_EPOCH if self.cluster in circle.past else Refusal.FOREIGN
        return None if is_signed(self.signer, self.signature, _PREFIX + self.body) else Refusal.FORGED
