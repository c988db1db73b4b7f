"""How far a chunk's bytes may go before the whole blob's own hash has been checked here.

The trust scheme knows four grades; this version produces two of them. A root proof (Xet) and a quorum of members' seals
get their rows here when they can be checked, not before.
"""

from __future__ import annotations

from enum import Enum


class Grade(Enum):
    """Who vouches for the digest of a chunk of a blob that is not sealed yet."""

    OWN = "own"  # we read this range from the hub ourselves, over TLS or from an upstream marked trusted
    HEARSAY = "hearsay"  # a peer, or a mirror, says so

    @property
    def may_leave(self) -> bool:
        """Whether a client may get the bytes now. Either way they may once the blob is sealed."""
        return self is Grade.OWN
