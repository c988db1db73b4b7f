"""The certificate of the gateway over TLS, for clients that cannot speak plain http to localhost.

An authority signs one certificate for this machine's loopback names and its key is thrown away: whoever reads the state
directory, or is made to trust the authority, can have nothing else signed by it. What is too old or lacks a name is made
anew at the next start; clients are pointed at a file, so they follow by themselves. Its neighbour, the bundle, holds the
system's authorities as well, because REQUESTS_CA_BUNDLE takes their place for everything that a program asks.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from p2pmodel.certificates import ODD, as_authority, as_leaf, named
from p2pmodel.errors import ConfigError
from p2pmodel.whole_file import write_whole

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_VALID: Final = timedelta(days=800)  # some systems refuse what lasts longer than 825
_RENEWED_BEFORE: Final = timedelta(days=90)
_SKEW: Final = timedelta(days=1)  # a clock that is set late must not find it "not yet valid"
_SYSTEM_BUNDLES: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem")


@dataclass(frozen=True, slots=True)
class Certificate:
    """On disk: `authority` is what clients have to trust, `bundle` the same with the system's authorities before it."""

    context: ssl.SSLContext
    authority: Path
    bundle: Path


def load(folder: Path, hosts: Collection[str]) -> Certificate:
    """The certificate in `folder`, made or made anew where that is needed. `hosts` are names beside those of loopback.
    Raises ConfigError. Blocks."""
    own, authority, bundle = folder / "gateway.pem", folder / "ca.pem", folder / "ca-bundle.pem"
    names = [*_LOOPBACK, *(_host_of(name) for name in hosts)]
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        if not _serves(own, authority, names):
            chain, trusted = _make(names)
            write_whole(own, chain, 0o600)
            write_whole(authority, trusted, 0o644)
        write_whole(bundle, _system_authorities() + authority.read_bytes(), 0o644)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(own)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"The certificate of the gateway in {folder} cannot be used: {error.strerror or error}.",
            next_step="Make that directory writable for the daemon, or remove what is in it: it is made anew.",
        ) from error
    return Certificate(context, authority, bundle)


def _host_of(name: str) -> str:
    """gateway.allowed_hosts may name a port, a certificate does not."""
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0] if name.count(":") == 1 else name


def _serves(own: Path, authority: Path, names: Iterable[str]) -> bool:
    """Whether what is there is for these names and lasts. What cannot be read as certificates is made anew."""
    try:
        leaf, trusted = (x509.load_pem_x509_certificate(file.read_bytes()) for file in (own, authority))
        covered = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        leaf.verify_directly_issued_by(trusted)
    except (FileNotFoundError, *ODD):
        return False
    lasts = leaf.not_valid_after_utc - datetime.now(UTC) > _RENEWED_BEFORE
    return lasts and all(_general(name) in covered for name in names)


def _make(names: Iterable[str]) -> tuple[bytes, bytes]:
    """(our certificate with its key, the authority that signed it)."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = named(f"p2pmodel gateway {ca_key.public_key().public_numbers().x % 2**32:08x}")  # told apart in a list of them
    signer, public = ca_key.public_key(), key.public_key()
    authority = as_authority(_builder(issuer, issuer, signer), signer).sign(ca_key, hashes.SHA256())
    leaf = (
        as_leaf(_builder(named("p2pmodel gateway"), issuer, public), public, signer, [ExtendedKeyUsageOID.SERVER_AUTH])
        .add_extension(x509.SubjectAlternativeName(list(map(_general, names))), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return leaf.public_bytes(pem) + secret, authority.public_bytes(pem)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), now - _SKEW, now + _VALID)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _system_authorities() -> bytes:
    paths = ssl.get_default_verify_paths()
    for file in (paths.cafile, *_SYSTEM_BUNDLES):
        if file is not None and Path(file).is_file():
            return Path(file).read_bytes().rstrip() + b"\n"
    return b""
