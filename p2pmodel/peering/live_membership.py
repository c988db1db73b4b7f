"""The membership in force: ours, for the time of a change of keys the one before, and who was let in once and is not any more.

Read again from its files every few seconds, so that a new key, certificate or deny list takes hold without a restart. A
deny list may come from a peer as well; the newest one is kept, so that no restart goes back to an older.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog
import trio
from cryptography import x509

from p2pmodel.certificates import ODD
from p2pmodel.delivery.blocking import Blocking
from p2pmodel.errors import ConfigError
from p2pmodel.limits import MEMBERSHIP_CHECK_S
from p2pmodel.peering.deny_list import DenyList
from p2pmodel.peering.membership import Membership, Mode

log = structlog.get_logger()


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
    except ODD:
        return False
    return True


class LiveMembership:
    """`load` reads the files; it raises ConfigError, at the start for its caller, later for the log. `kept` is where the
    newest deny list is kept."""

    def __init__(self, load: Callable[[], Memberships], blocking: Blocking, kept: Path | None = None) -> None:
        self._load = load
        self._blocking = blocking
        self._trouble = ""
        self._kept = kept
        self._on_disk = b""
        self.now = load()
        if kept is not None:
            recalled = DenyList.recall(kept, self.now.current.authority)
            self._on_disk = recalled.document
            if recalled.number > self.now.denied.number:
                self.now = replace(self.now, denied=recalled)

    @property
    def tags(self) -> list[str]:
        return [each.tag for each in self.now.accepted]

    def sharing_keys(self) -> Mapping[bytes, bytes]:
        """By the tag of the key under which a link stands; ours first."""
        return {bytes.fromhex(each.tag): each.sharing_key for each in self.now.accepted if each.sharing_key is not None}

    @property
    def deny_list(self) -> DenyList:
        return self.now.denied

    async def learn(self, document: bytes) -> bool:
        """A deny list that a peer has; whether it is newer than ours. Raises ValueError unless our authority signed it."""
        tag = self.now.current.tag
        if self.now.current.mode is not Mode.HARDENED:
            raise ValueError("any member could have signed it")
        told = await self._blocking(DenyList.parse, document, self.now.current.authority)
        if told.number <= self.now.denied.number or tag != self.now.current.tag:
            return False
        log.info("deny_list.learnt", number=told.number, denied=len(told.serials))
        self.now = replace(self.now, denied=told)
        return True

    async def run(self, renewed: Callable[[Memberships], None]) -> None:
        """Until cancelled. `renewed` is called every few seconds: what was trusted may have run out."""
        while True:
            await trio.sleep(MEMBERSHIP_CHECK_S)
            try:
                self._take(await self._blocking(self._load))
            except ConfigError as error:
                self._complain(str(error))
            renewed(self.now)
            await self._keep()

    def _take(self, found: Memberships) -> None:
        if found.current.identity.node != self.now.current.identity.node:
            self._complain("cluster.key is another node's now; that takes a restart")
            return
        trouble = ""
        if found.denied.number < self.now.denied.number and found.current.tag == self.now.current.tag:
            trouble = "cluster.crl is older than the list in force" if found.denied.number >= 0 else ""
            found = replace(found, denied=self.now.denied)
        self._complain(trouble)
        if not found.same(self.now):
            log.info(
                "membership.renewed", tag=found.current.tag, former=found.former is not None, denied=len(found.denied.serials)
            )
            self.now = found

    def _complain(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:  # once, not every few seconds
            log.warning("membership.not_renewed", why=trouble)
        self._trouble = trouble

    async def _keep(self) -> None:
        denied = self.now.denied
        if self._kept is None or denied.document in {b"", self._on_disk}:
            return
        self._on_disk = denied.document  # if the disk does not take it, it is asked of a peer again
        try:
            await self._blocking(denied.keep, self._kept)
        except OSError as error:
            log.warning("deny_list.not_kept", file=str(self._kept), error=error.strerror)
