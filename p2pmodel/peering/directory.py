"""Where peers may be, and whom to dial next: pure decisions, time given.

Everything that comes in is a hint (mDNS is open to all, peer exchange to members): bounded in number, bounded per host,
forgotten unless it proves itself, and never able to replace what a handshake has proven.
"""

from __future__ import annotations

import ipaddress
import math
import random
from collections import Counter
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Final

from p2pmodel.content import NodeId
from p2pmodel.limits import (
    CANDIDATE_EXPIRY_S,
    CANDIDATES_MAX,
    CANDIDATES_PER_ADDRESS_MAX,
    LINKS_MAX,
    REDIAL_MAX_S,
    REDIAL_MIN_S,
    REDIAL_SILENT_S,
)
from p2pmodel.network import Address, Candidate

_KEPT_ORIGINS: Final = frozenset({"static", "remembered"})


@dataclass(slots=True)
class Entry:
    """What is known of an address."""

    address: Address
    node: NodeId | None
    origin: str
    heard_at: float
    next_dial: float
    failures: int = 0
    proven: bool = False  # a handshake showed `node` there
    dialling: bool = False

    @property
    def kept(self) -> bool:
        return self.proven or self.origin in _KEPT_ORIGINS


class Directory:
    """Candidates by address. `near` says which hosts may be dialled on a hint."""

    def __init__(self, *, own: NodeId, near: Callable[[str], bool], dice: random.Random) -> None:
        self._own = own
        self._near = near
        self._dice = dice
        self._entries: dict[Address, Entry] = {}  # the longest unheard of first
        self._hosts: Counter[str] = Counter()  # entries by host
        self._ourselves: set[Address] = set()

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> list[Entry]:
        return list(self._entries.values())

    def heard(self, candidate: Candidate, now: float) -> None:
        """A hint. A known address is only refreshed: its next dial comes soon, its proven owner stays."""
        if candidate.node == self._own or candidate.address in self._ourselves:
            return
        entry = self._entries.get(candidate.address)
        if entry is None:
            self._admit(candidate, now)
            return
        entry.heard_at = now
        self._entries[candidate.address] = self._entries.pop(candidate.address)
        entry.next_dial = min(entry.next_dial, now + REDIAL_MIN_S)
        if not entry.proven and candidate.node != entry.node:
            entry.node = None  # two tales: believe neither

    def due(self, now: float, linked: Container[NodeId]) -> list[Entry]:
        """Whom to dial now, the most promising first."""
        self._forget(now)
        ready = [entry for entry in self._entries.values() if entry.next_dial <= now and not entry.dialling]
        ready = [entry for entry in ready if entry.node is None or entry.node not in linked]
        return sorted(ready, key=lambda entry: (not entry.kept, entry.failures, entry.next_dial))

    def next_due(self, linked: Container[NodeId]) -> float:
        """When to look at `due` again, if nothing is heard until then."""
        waiting = [entry for entry in self._entries.values() if not entry.dialling]
        return min((entry.next_dial for entry in waiting if entry.node is None or entry.node not in linked), default=math.inf)

    def failed(self, entry: Entry, now: float) -> None:
        """Nobody there, or a stranger: try later, and later yet each time."""
        entry.dialling = False
        entry.failures += 1
        longest = REDIAL_MAX_S if now - entry.heard_at < REDIAL_SILENT_S else REDIAL_SILENT_S
        pause = min(longest, REDIAL_MIN_S * 2 ** min(entry.failures - 1, 16))
        entry.next_dial = now + pause * self._dice.uniform(0.75, 1.25)

    def proved(self, entry: Entry, node: NodeId, now: float) -> None:
        """A handshake showed who is there."""
        entry.dialling = False
        if node == self._own:
            self._ourselves.add(entry.address)
            self._remove(entry)
            return
        entry.node, entry.proven, entry.heard_at = node, True, now

    def lost(self, node: NodeId, lived_s: float, now: float) -> None:
        """The link to a node ended. Dial again soon, the smaller id first, but ever more rarely one that never lives long."""
        for entry in self._entries.values():
            if entry.node != node:
                continue
            entry.heard_at = now
            if lived_s < REDIAL_MAX_S:
                self.failed(entry, now)
            else:
                entry.failures = 0
                entry.next_dial = now + self._turn(node) + REDIAL_MIN_S * self._dice.random()

    def met(self, address: Address, node: NodeId, now: float) -> None:
        """A peer that dialled us listens there, it says: as good as proven, for it showed its key from that host."""
        self.heard(Candidate(address, node, "met"), now)
        if (entry := self._entries.get(address)) and entry.node == node:
            self.proved(entry, node, now)

    def to_remember(self) -> list[Candidate]:
        """The proven ones, most recently heard first."""
        proven = sorted((entry for entry in self._entries.values() if entry.proven), key=lambda entry: -entry.heard_at)
        return [Candidate(entry.address, entry.node, "remembered") for entry in proven[:LINKS_MAX]]

    def _admit(self, candidate: Candidate, now: float) -> None:
        static = candidate.origin == "static"
        if not static and not self._welcome(candidate.address):
            return
        if len(self._entries) >= CANDIDATES_MAX and not self._make_room():
            return
        entry = Entry(candidate.address, candidate.node, candidate.origin, now, now + self._turn(candidate.node))
        self._entries[candidate.address] = entry
        self._hosts[candidate.address.host] += 1

    def _remove(self, entry: Entry) -> None:
        del self._entries[entry.address]
        host = entry.address.host
        self._hosts[host] -= 1
        if not self._hosts[host]:
            del self._hosts[host]

    def _turn(self, node: NodeId | None) -> float:
        """How long to wait for the other to dial: both have just thought of it, and two links are one too many."""
        return REDIAL_MIN_S if node is not None and self._own > node else 0.0

    def _welcome(self, address: Address) -> bool:
        """A dialable IP address, near enough, of a host that has not named too many."""
        try:
            ip = ipaddress.ip_address(address.host)
        except ValueError:
            return False
        if not 0 < address.port < 1 << 16 or ip.is_multicast or ip.is_unspecified or not self._near(address.host):
            return False
        return self._hosts[address.host] < CANDIDATES_PER_ADDRESS_MAX

    def _make_room(self) -> bool:
        """Drop the unproven candidate that has been silent longest. False if all are proven or configured."""
        unproven = (entry for entry in self._entries.values() if not entry.kept and not entry.dialling)
        longest = next(unproven, None)
        if longest is None:
            return False
        self._remove(longest)
        return True

    def _forget(self, now: float) -> None:
        for entry in self.entries():
            if not entry.kept and not entry.dialling and now - entry.heard_at > CANDIDATE_EXPIRY_S:
                self._remove(entry)
