"""Documents that members hand on: public key ‖ signature ‖ deflated JSON (protocol/snapshots.md)."""

from __future__ import annotations

import zlib
from typing import Final, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from p2pmodel.limits import SNAPSHOT_BYTES_MAX

T = TypeVar("T")

_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64


def sign_document(content: object, prefix: bytes, key: Ed25519PrivateKey) -> bytes:
    """`prefix` says what kind of document it is: no signature of one kind is good for another."""
    body = zlib.compress(msgspec.json.encode(content), 6)
    return key.public_key().public_bytes_raw() + key.sign(prefix + body) + body


def read_document(document: bytes, prefix: bytes, kind: type[T], what: str) -> tuple[bytes, T]:
    """The signer's public key, and what it signed. Raises ValueError unless it is well signed and well formed."""
    signer, rest = document[:_KEY_BYTES], document[_KEY_BYTES:]
    signature, body = rest[:_SIGNATURE_BYTES], rest[_SIGNATURE_BYTES:]
    try:
        Ed25519PublicKey.from_public_bytes(signer).verify(signature, prefix + body)
        inflater = zlib.decompressobj()
        text = inflater.decompress(body, SNAPSHOT_BYTES_MAX)
        if inflater.unconsumed_tail:
            raise ValueError(f"a {what} larger than any")
        return signer, msgspec.json.decode(text, type=kind)
    except (InvalidSignature, zlib.error, UnicodeError, msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"a {what} that cannot be believed: {error}") from None
