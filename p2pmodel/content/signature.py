"""Whether a signature is its signer's. What was checked lately is remembered: a proof against a liar comes from every peer."""

from __future__ import annotations

from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from p2pmodel.limits import SIGNATURES_REMEMBERED_MAX


@lru_cache(SIGNATURES_REMEMBERED_MAX)
def is_signed(signer: bytes, signature: bytes, data: bytes) -> bool:
    """Ed25519; `signer` is a raw public key."""
    try:
        Ed25519PublicKey.from_public_bytes(signer).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True
