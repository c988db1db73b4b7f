"""The membership in force: ours, for the time of a change of keys the one before, and who was let in once and is not any more.

Read again from its files every few seconds, so that a new key, certificate or deny list takes hold without a restart.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog
import trio
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from p2pmodel.delivery.blocking import Blocking
from p2pmodel.errors import ConfigError
from p2pmodel.limits import MEMBERSHIP_CHECK_S
from p2pmodel.peering.membership import Membership

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class DenyList:
    """A certificate revocation list of the cluster's authority."""

    number: int = -1  # a later list has a higher one
    serials: frozenset[int] = frozenset()

    @classmethod
    def read(cls, file: Path, authority: x509.Certificate) -> DenyList:
        """Raises ConfigError unless it is a PEM file signed by that authority."""
        try:
            listed = x509.load_pem_x509_crl(file.read_bytes())
            signed = listed.is_signature_valid(authority.public_key())  # type: ignore[arg-type]  # others are a TypeError
            number = listed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        except (OSError, ValueError, TypeError, x509.ExtensionNotFound) as error:
            raise ConfigError(f"cluster.crl must be a PEM revocation list with a number: {error}") from error
        if not signed:
            raise ConfigError("cluster.crl is not signed by cluster.ca.")
        return cls(number, frozenset(each.serial_number for each in listed))


@dataclass(frozen=True, slots=True)
class Memberships:
    """`former` is accepted as well, until `former_until` (Unix time)."""

    current: Membership
    former: Membership | None = None
    former_until: float = 0.0
    denied: DenyList = field(default=DenyList(), repr=False)

    @property
    def accepted(self) -> list[Membership]:
        """Ours first."""
        return [self.current] if self.former is None else [self.current, self.former]

    def same(self, other: Memberships) -> bool:
        """Whether they let in and keep out the same, and show the same of us."""
        return self._marks() == other._marks()

    def _marks(self) -> object:
        # A derived certificate is made anew each time and as good as the one before.
        shown = [(each.tag, each.certificate.serial_number if each.issued else 0) for each in self.accepted]
        return shown, self.former_until, self.denied

    def trusts(self, certificate: x509.Certificate, now: dt.datetime) -> bool:
        """Whether the node that this certificate was shown by may be a peer (still)."""
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            return False
        if certificate.serial_number in self.denied.serials:
            return False
        return self.issuer(certificate) is not None

    def issuer(self, certificate: x509.Certificate) -> Membership | None:
        return next((each for each in self.accepted if _issued_by(certificate, each.authority)), None)


def _issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


class LiveMembership:
    """`load` reads the files; it raises ConfigError, at the start for its caller, later for the log."""

    def __init__(self, load: Callable[[], Memberships], blocking: Blocking) -> None:
        self._load = load
        self._blocking = blocking
        self._trouble = ""
        self.now = load()

    @property
    def tags(self) -> list[str]:
        return [each.tag for each in self.now.accepted]

    def sharing_keys(self) -> Sequence[bytes]:
        return [each.sharing_key for each in self.now.accepted if each.sharing_key is not None]

    async def run(self, renewed: Callable[[Memberships], None]) -> None:
        """Until cancelled. `renewed` is called every few seconds: what was trusted may have run out."""
        while True:
            await trio.sleep(MEMBERSHIP_CHECK_S)
            try:
                self._take(await self._blocking(self._load))
            except ConfigError as error:
                self._complain(str(error))
            renewed(self.now)

    def _take(self, found: Memberships) -> None:
        if found.current.identity.node != self.now.current.identity.node:
            self._complain("cluster.key is another node's now; that takes a restart")
            return
        if found.denied.number < self.now.denied.number:
            self._complain("cluster.crl is older than the list in force")
            return
        self._trouble = ""
        if not found.same(self.now):
            log.info(
                "membership.renewed", tag=found.current.tag, former=found.former is not None, denied=len(found.denied.serials)
            )
            self.now = found

    def _complain(self, trouble: str) -> None:
        if trouble != self._trouble:  # once, not every few seconds
            self._trouble = trouble
            log.warning("membership.not_renewed", why=trouble)
