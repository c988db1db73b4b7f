"""How far a chunk's bytes may go before the whole blob's own hash has been checked here: one table (DESIGN §4).

Every chunk is checked against its digest before it is written, whatever the grade; the grade says who stands behind the
digest.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from p2pmodel.content.attestation import Level

if TYPE_CHECKING:
    from collections.abc import Mapping


class Grade(Enum):
    """Who vouches for the digest of a chunk of a blob that is not sealed yet."""

    ROOT = "root"  # A: its pieces are those of the root that the hub itself names, whoever gave them (Xet)
    OWN = "own"  # B: we read this range from the hub ourselves, over TLS or from an upstream marked trusted
    QUORUM = "quorum"  # C: as many members of a closed cluster as `gateway.vouchers` asks for vouch for it
    SINGLE = "single"  # D: one member signed for it, or says so
    MIRROR = "mirror"  # we read it from a mirror, for which nobody vouches

    @property
    def proves(self) -> bool:
        """Whether it settles who lied: another's signature under another digest is a false one."""
        return _RIGHTS[self].proves

    @property
    def signs(self) -> Level | None:
        """How we sign for it when we hand it to a peer; None: it goes on with its signer's signature, or not at all."""
        return _RIGHTS[self].signs

    @property
    def may_leave(self) -> bool:
        """Whether a client may get the bytes now. Either way it may once the blob is sealed."""
        return _RIGHTS[self].may_leave


@dataclass(frozen=True, slots=True)
class _Rights:
    proves: bool
    signs: Level | None
    may_leave: bool


_RIGHTS: Final[Mapping[Grade, _Rights]] = {
    Grade.ROOT: _Rights(proves=True, signs=None, may_leave=True),
    Grade.OWN: _Rights(proves=True, signs=Level.WITNESS, may_leave=True),
    Grade.QUORUM: _Rights(proves=False, signs=None, may_leave=True),
    Grade.SINGLE: _Rights(proves=False, signs=None, may_leave=False),
    Grade.MIRROR: _Rights(proves=False, signs=Level.MIRROR, may_leave=False),
}


def peers_grade(members: int, *, vouchers: int, closed: bool) -> Grade:
    """Of a chunk from a peer, for whose digest so many members vouch. In an open cluster members are anybody."""
    return Grade.QUORUM if closed and 0 < vouchers <= members else Grade.SINGLE
