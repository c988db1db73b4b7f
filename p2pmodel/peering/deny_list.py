"""Who was let in once and is not any more: a revocation list of the cluster's authority, from a file of ours or from a peer.

It counts because the authority signed it, whoever brings it, and the one with the highest number counts.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from p2pmodel.certificates import ODD
from p2pmodel.errors import ConfigError
from p2pmodel.limits import DENY_LIST_BYTES_MAX
from p2pmodel.whole_file import write_whole

_NUMBERS: Final = 1 << 160  # RFC 5280 5.2.3: 20 octets


@dataclass(frozen=True, slots=True)
class DenyList:
    """A certificate revocation list."""

    number: int = -1  # a later list has a higher one
    serials: frozenset[int] = frozenset()
    document: bytes = field(default=b"", repr=False)  # DER, as peers get it; empty where it is too long for them

    @property
    def told_number(self) -> bytes:
        """As heartbeats carry it; empty where there is nothing to be told."""
        return self.number.to_bytes((self.number.bit_length() + 7) // 8) if self.document else b""

    @classmethod
    def parse(cls, document: bytes, authority: x509.Certificate) -> Self:
        """From DER. Raises ValueError unless it is a whole list of that authority's."""
        try:
            return cls._of(x509.load_der_x509_crl(document), authority)
        except ODD as error:
            raise ValueError(f"no revocation list with a number: {error}") from error

    @classmethod
    def read(cls, file: Path, authority: x509.Certificate) -> Self:
        """Raises ConfigError unless it is a PEM file with a whole list of that authority's."""
        try:
            return cls._of(x509.load_pem_x509_crl(file.read_bytes()), authority)
        except (OSError, *ODD) as error:
            raise ConfigError(f"cluster.crl must be a PEM revocation list of cluster.ca with a number: {error}") from error

    @classmethod
    def _of(cls, listed: x509.CertificateRevocationList, authority: x509.Certificate) -> Self:
        if not listed.is_signature_valid(authority.public_key()):  # type: ignore[arg-type]  # others are a TypeError
            raise ValueError("the authority did not sign it")
        # RFC 5280 5.2: it speaks of some certificates only, or of what changed, if an extension is critical.
        if critical := [each.oid.dotted_string for each in listed.extensions if each.critical]:
            raise ValueError(f"it is not a whole list (extension {critical[0]})")
        number = listed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        document = listed.public_bytes(Encoding.DER)
        told = 0 < number < _NUMBERS and len(document) <= DENY_LIST_BYTES_MAX
        return cls(number, frozenset(each.serial_number for each in listed), document if told else b"")

    @classmethod
    def recall(cls, file: Path, authority: x509.Certificate) -> Self:
        """What `keep` wrote, if it is still this authority's."""
        with suppress(OSError, ValueError):
            return cls.parse(file.read_bytes(), authority)
        return cls()

    def keep(self, file: Path) -> None:
        """For the next start. Raises OSError."""
        write_whole(file, self.document, 0o600)
