"""Who belongs to the cluster: a certificate authority that every member can derive, and this node's certificate under it.

One mechanism, three modes (TRUST.md 2(c), protocol/opening.md). *open*: the secret is a public constant, so links are
encrypted and ids stable, but nobody is kept out. *closed*: the secret is the join token. *hardened*: an existing CA signed
this node's certificate, and its key lives elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from p2pmodel.certificates import ODD, as_authority, as_leaf, named
from p2pmodel.content import NodeId
from p2pmodel.content.naming import node_id_of
from p2pmodel.errors import ConfigError
from p2pmodel.peering.identity import Identity

_TOKEN_PREFIX: Final = "p2pm1-"  # noqa: S105  # what a token starts with, not one
_SECRET_BYTES: Final = 32
_CHECK_BYTES: Final = 4
_OPEN_SECRET: Final = hashlib.sha256(b"p2pmodel open cluster v1").digest()

# Every member can mint certificates, so short ones would add nothing but trouble with wrong clocks.
_NOT_BEFORE: Final = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
_NOT_AFTER: Final = dt.datetime(2119, 1, 1, tzinfo=dt.UTC)

_SPKI: Final = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)  # a CA's key may be of any kind


class Mode(StrEnum):
    OPEN = "open"
    CLOSED = "closed"
    HARDENED = "hardened"


@dataclass(frozen=True, slots=True)
class Membership:
    """What TLS needs to know of the cluster. `filter_key` keys the filter that mDNS carries; None where it would be public."""

    mode: Mode
    tag: str  # 16 hex digits of the CA's key: tells clusters apart on one LAN, proves nothing
    authority: x509.Certificate = field(repr=False)
    certificate: x509.Certificate = field(repr=False)
    identity: Identity
    filter_key: bytes | None = field(default=None, repr=False)
    issued: bool = False  # the certificate is one that somebody gave us, not one that we make at every start
    sharing_key: bytes | None = field(default=None, repr=False)  # names private blobs among members; None in an open cluster

    @property
    def keeps_strangers_out(self) -> bool:
        return self.mode is not Mode.OPEN

    @classmethod
    def open(cls, identity: Identity) -> Self:
        return cls._derived(Mode.OPEN, identity, _OPEN_SECRET)

    @classmethod
    def closed(cls, identity: Identity, token: str) -> Self:
        """Raises ConfigError unless `token` is a join token."""
        return cls._derived(Mode.CLOSED, identity, parse_join_token(token))

    @classmethod
    def hardened(cls, *, ca: Path, cert: Path, key: Path) -> Self:
        """From PEM files. Raises ConfigError unless they can be read and the certificate is named by its key's node id."""
        try:
            authority = x509.load_pem_x509_certificate(ca.read_bytes())
            certificate = x509.load_pem_x509_certificate(cert.read_bytes())
            private = serialization.load_pem_private_key(key.read_bytes(), password=None)
            named = certified_node(certificate)
        except (OSError, *ODD) as error:
            raise ConfigError(f"cluster.ca, cluster.cert and cluster.key must be readable PEM files: {error}") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise ConfigError(f"{key} must be an Ed25519 key.")
        identity = Identity(private)
        if named != identity.node:
            raise ConfigError(f"{cert} is not the certificate of {key}, whose node id is {identity.node}.")
        public = authority.public_key().public_bytes(*_SPKI)
        return cls(Mode.HARDENED, _tag(public), authority, certificate, identity, issued=True, sharing_key=sharing_key(public))

    @classmethod
    def _derived(cls, mode: Mode, identity: Identity, secret: bytes) -> Self:
        key = Ed25519PrivateKey.from_private_bytes(_derive(secret, b"p2pmodel cluster ca v1 epoch 1"))
        authority = _authority(key)
        return cls(
            mode,
            _tag(key.public_key().public_bytes_raw()),
            authority,
            _leaf(key, authority, identity),
            identity,
            _derive(secret, b"p2pmodel blob filter v1") if mode is Mode.CLOSED else None,
            sharing_key=sharing_key(secret) if mode is Mode.CLOSED else None,
        )


def new_join_token() -> str:
    """A new cluster's secret as people copy it: prefix, then base32 of 32 random bytes and a checksum."""
    secret = secrets.token_bytes(_SECRET_BYTES)
    return _TOKEN_PREFIX + base64.b32encode(secret + _check(secret)).decode().rstrip("=").lower()


def parse_join_token(token: str) -> bytes:
    """The secret in a join token. Raises ConfigError (which does not repeat it) for anything else."""
    prefix, digits = token.strip().lower()[: len(_TOKEN_PREFIX)], token.strip()[len(_TOKEN_PREFIX) :].upper()
    try:
        raw = base64.b32decode(digits + "=" * (-len(digits) % 8))
    except (binascii.Error, ValueError):
        raw = b""
    secret, check = raw[:_SECRET_BYTES], raw[_SECRET_BYTES:]
    if prefix != _TOKEN_PREFIX or len(secret) != _SECRET_BYTES or check != _check(secret):
        raise ConfigError(
            "That is not a join token, or a part of it is missing.",
            next_step="Copy what `p2pmodel cluster token` prints on a member.",
        )
    return secret


def sharing_key(secret: bytes) -> bytes:
    """What names private blobs among members (protocol/private.md); a hardened cluster's secret is its CA's public key."""
    return _derive(secret, b"p2pmodel private sharing v1")


def read_certificate(document: bytes) -> tuple[x509.Certificate, NodeId]:
    """A certificate from DER, and whose it is. Raises ValueError, and nothing else, for what is none of a node's."""
    try:
        certificate = x509.load_der_x509_certificate(document)
        return certificate, certified_node(certificate)
    except ODD as error:
        raise ValueError(f"not a node's certificate: {error}") from error


def certified_node(certificate: x509.Certificate) -> NodeId:
    """Whose certificate this is. Raises ValueError unless its name is the id of its own Ed25519 key."""
    key = certificate.public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("the certificate's key is not Ed25519")  # noqa: TRY004  # foreign input, not our call's type
    node = node_id_of(key.public_bytes_raw())
    names = [name.value for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [node]:
        raise ValueError("the certificate's name is not the id of its key")
    return node


def _check(secret: bytes) -> bytes:
    return hashlib.sha256(b"p2pmodel join token v1" + secret).digest()[:_CHECK_BYTES]


def _derive(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, None, purpose).derive(secret)


def _tag(public: bytes) -> str:
    return hashlib.sha256(public).hexdigest()[:16]


def _authority(key: Ed25519PrivateKey) -> x509.Certificate:
    """Byte for byte the same on every member: Ed25519 signatures are deterministic, and nothing else varies."""
    public = key.public_key()
    name = named(f"p2pmodel-{_tag(public.public_bytes_raw())}-e1")
    return as_authority(_builder(name, name, public, 1), public).sign(key, None)


def _leaf(ca_key: Ed25519PrivateKey, ca: x509.Certificate, identity: Identity) -> x509.Certificate:
    public = identity.key.public_key()
    builder = _builder(named(identity.node), ca.subject, public, x509.random_serial_number())
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    return as_leaf(builder, public, ca_key.public_key(), purposes).sign(ca_key, None)


def _builder(subject: x509.Name, issuer: x509.Name, public: Ed25519PublicKey, serial: int) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(issuer, subject, public, serial, _NOT_BEFORE, _NOT_AFTER)
