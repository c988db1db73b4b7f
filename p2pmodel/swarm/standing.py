"""A node's memory of which sources lied or gave wrong bytes. Never on hearsay: only what this node found out itself.

Three kinds of it. *Strikes* are wrong bytes, as bad memory gives them: enough of them ban the giver for a while, longer
each time. A *proof* is a signature under a false digest: its signer is banned for good. *Doubt* is for who handed on false
bytes that nobody can be held to account for: for a while only what an accountable member signed is taken from it.
The operator may *forgive* a node, whose disk was mended say: it begins anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import TypeVar

from p2pmodel.limits import (
    BAN_MAX_S,
    BAN_MIN_S,
    PARDON_S,
    SOURCES_REMEMBERED_MAX,
    STRIKES_MAX,
    STRIKES_ONE_BLOB_MAX,
    STRIKES_S,
)

T = TypeVar("T")


class Why(StrEnum):
    """Why a node is banned."""

    WRONG_BYTES = "wrong_bytes"  # several times other bytes than those of the digest that came with them
    FALSE_DIGEST = "false_digest"  # signed a digest that our own read of the hub, or the blob's own hash, refutes
    FALSE_LISTING = "false_listing"  # told of a commit's files what the hub did not confirm
    TWO_DIGESTS = "two_digests"  # signed two digests for one chunk


@dataclass(frozen=True, slots=True)
class Ban:
    source: str
    why: Why
    until: float  # inf: for good


@dataclass(slots=True)
class Standing:
    banned: int = 0  # bans so far, for metrics
    _strikes: dict[str, list[tuple[float, str]]] = field(default_factory=dict)  # (when, about which blob)
    _bans: dict[str, Ban] = field(default_factory=dict)  # those that ran out as well: the next one is longer
    _lengths: dict[str, float] = field(default_factory=dict)
    _doubts: dict[str, tuple[float, float]] = field(default_factory=dict)  # until when, and how long the next one is
    _met: dict[str, None] = field(default_factory=dict)
    _pardons: dict[str, float] = field(default_factory=dict)  # until when

    def met(self, source: str) -> None:
        """It proved over a link that it is a member."""
        _remember(self._met, source, None)

    def is_member(self, source: str) -> bool:
        return source in self._met

    def strike(self, source: str, now: float, blob: str = "") -> Ban | None:
        """Count wrong bytes against a source; the ban if that makes one."""
        recent = [(at, about) for at, about in self._strikes.get(source, []) if now - at < STRIKES_S] + [(now, blob)]
        _remember(self._strikes, source, recent)
        of_this_blob = sum(bool(blob) and about == blob for _, about in recent)
        if len(recent) < STRIKES_MAX and of_this_blob < STRIKES_ONE_BLOB_MAX:
            return None
        return self.suspend(source, Why.WRONG_BYTES, now)

    def suspend(self, source: str, why: Why, now: float) -> Ban:
        """For a while: the first time BAN_MIN_S, then twice as long each time."""
        length = self.next_length(source)
        _remember(self._lengths, source, min(2 * length, BAN_MAX_S))
        return self._ban(Ban(source, why, now + length))

    def convict(self, source: str, why: Why) -> Ban | None:
        """Proven false: banned for good. None if it is already."""
        before = self._bans.get(source)
        return self._ban(Ban(source, why, inf)) if before is None or before.until < inf else None

    def recall(self, ban: Ban, next_length: float = BAN_MIN_S) -> None:
        """One of an earlier run, and how long the next one is."""
        _remember(self._bans, ban.source, ban)
        _remember(self._lengths, ban.source, next_length)

    def next_length(self, source: str) -> float:
        """How long its next ban for wrong bytes is."""
        return self._lengths.get(source, BAN_MIN_S)

    def forgive(self, source: str, now: float) -> None:
        """Forget what is held against it. What it signed before may still be about: for a while nobody's evidence counts."""
        for facts in (self._strikes, self._bans, self._lengths, self._doubts):
            facts.pop(source, None)
        _remember(self._pardons, source, now + PARDON_S)

    def pardons(self, now: float) -> dict[str, float]:
        """Who was forgiven lately, and until when that counts."""
        return {source: until for source, until in self._pardons.items() if until > now}

    def recall_pardon(self, source: str, until: float) -> None:
        """One of an earlier run."""
        _remember(self._pardons, source, until)

    def is_pardoned(self, source: str, now: float) -> bool:
        """Whether it was forgiven lately: what others hold against it may be what was forgiven."""
        return self._pardons.get(source, -inf) > now

    def _ban(self, ban: Ban) -> Ban:
        self._strikes.pop(ban.source, None)
        self.banned += 1
        _remember(self._bans, ban.source, ban)
        return ban

    def is_banned(self, source: str, now: float) -> bool:
        ban = self._bans.get(source)
        return ban is not None and ban.until > now

    def is_convicted(self, source: str) -> bool:
        """Its signature is worth nothing. Who only gave wrong bytes, as bad memory does, may have signed for right ones."""
        ban = self._bans.get(source)
        return ban is not None and ban.until == inf

    def bans(self, now: float) -> list[Ban]:
        return [ban for ban in self._bans.values() if ban.until > now]

    def next_end(self, now: float) -> float:
        """When the next ban runs out."""
        return min((ban.until for ban in self.bans(now)), default=inf)

    def doubt(self, source: str, now: float) -> None:
        """It handed on false bytes for which nobody answers."""
        _, length = self._doubts.get(source, (0.0, BAN_MIN_S))
        _remember(self._doubts, source, (now + length, min(2 * length, BAN_MAX_S)))

    def is_doubted(self, source: str, now: float) -> bool:
        return self._doubts.get(source, (0.0, 0.0))[0] > now


def _remember(facts: dict[str, T], source: str, fact: T) -> None:
    facts.pop(source, None)
    facts[source] = fact
    if len(facts) > SOURCES_REMEMBERED_MAX:
        del facts[next(iter(facts))]
