"""A blob's ordered chunk digests, and the signature of the node that found the blob's own hash right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pmodel.content.digest import Blob
from p2pmodel.content.geometry import chunk_count
from p2pmodel.content.naming import NodeId, node_id_of
from p2pmodel.content.signature import is_signed

DIGEST_BYTES: Final = 32
_ROOT_CONTEXT: Final = "p2pmodel manifest v1"
_SEAL_PREFIX: Final = b"p2pmodel seal v1\0"


@dataclass(frozen=True, slots=True)
class Manifest:
    """`digests` is chunk_count × 32 bytes, chunk 0 first."""

    blob: Blob
    digests: bytes

    def __post_init__(self) -> None:
        if len(self.digests) != chunk_count(self.blob.size) * DIGEST_BYTES:
            raise ValueError(f"a manifest of {self.blob} cannot have {len(self.digests)} bytes of digests")

    def digest(self, index: int) -> bytes:
        return self.digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]

    @property
    def root(self) -> bytes:
        """32 bytes that stand for the whole manifest: what a seal signs (protocol/manifest.md)."""
        hasher = blake3.blake3(derive_key_context=_ROOT_CONTEXT)
        hasher.update(self.blob.id.to_bytes() + self.blob.size.to_bytes(8, "big"))
        hasher.update(self.digests)
        return hasher.digest()


@dataclass(frozen=True, slots=True)
class Seal:
    """A node's word, signed, that it holds the whole blob, that the blob's own hash was right, and that the root is `root`."""

    root: bytes  # 32 bytes
    signer: bytes  # Ed25519 public key, 32 bytes
    signature: bytes  # 64 bytes

    @classmethod
    def sign(cls, manifest: Manifest, key: Ed25519PrivateKey) -> Seal:
        root = manifest.root
        return cls(root, key.public_key().public_bytes_raw(), key.sign(_SEAL_PREFIX + root))

    @property
    def node(self) -> NodeId:
        return node_id_of(self.signer)

    def vouches_for(self, manifest: Manifest) -> bool:
        """Whether the signature is the signer's and the manifest is the one that was signed."""
        return self.root == manifest.root and is_signed(self.signer, self.signature, _SEAL_PREFIX + self.root)
