"""What of the multicast that comes in reaches python-zeroconf: a flood of it is dropped before anything is parsed or kept.

An address may send only so many packets, and tell of only so many nodes that were not heard of before. All addresses together
may tell of only so many new nodes, for a sender writes on its packets what address it likes. And of what names no node, as the
records of other services do, only so much is looked at.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from p2pmodel.limits import (
    MDNS_ADDRESSES_MAX,
    MDNS_NAMES_BURST,
    MDNS_NAMES_KNOWN_MAX,
    MDNS_NAMES_PER_ADDRESS_BURST,
    MDNS_NAMES_PER_ADDRESS_S,
    MDNS_NAMES_PER_S,
    MDNS_PACKETS_PER_ADDRESS_BURST,
    MDNS_PACKETS_PER_ADDRESS_S,
    MDNS_STRANGE_BURST,
    MDNS_STRANGE_PER_S,
)

_OURS: Final = re.compile(rb"\x09_p2pmodel\x04_tcp\x05local", re.IGNORECASE)
_NODE: Final = re.compile(rb"\x28([0-9a-f]{40})", re.IGNORECASE)  # a label of 40 digits
_ANSWER_BIT: Final = 0x80  # of the third byte
_ANSWER_AT: Final = 2


@dataclass(slots=True)
class _Measure:
    """So many at once, and so many a second."""

    per_s: float
    most: float
    left: float
    at: float = 0.0

    def allows(self, now: float) -> bool:
        self.left = min(self.most, self.left + (now - self.at) * self.per_s)
        self.at = now
        return self.left >= 1


def _take(now: float, *measures: _Measure) -> bool:
    """One of each, or none."""
    if not all(measure.allows(now) for measure in measures):
        return False
    for measure in measures:
        measure.left -= 1
    return True


def _measure(per_s: float, most: float, now: float) -> _Measure:
    return _Measure(per_s, most, most, now)


@dataclass(slots=True)
class _Address:
    packets: _Measure
    names: _Measure


class Sieve:
    """Says of each packet whether it is worth a look."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.dropped = 0
        self._now = now
        self._addresses: dict[str, _Address] = {}  # the one that spoke last comes last
        self._known: dict[bytes, None] = {}  # nodes, the one that was told of last comes last
        self._names = _measure(MDNS_NAMES_PER_S, MDNS_NAMES_BURST, now())
        self._strange = _measure(MDNS_STRANGE_PER_S, MDNS_STRANGE_BURST, now())

    def passes(self, packet: bytes, address: str) -> bool:
        passed = self._passes(packet, address)
        self.dropped += not passed
        return passed

    def _passes(self, packet: bytes, host: str) -> bool:
        now = self._now()
        address = self._address(host, now)
        nodes = {node.lower() for node in _NODE.findall(packet)}
        if not nodes and not _OURS.search(packet):
            return _take(now, address.packets, self._strange)
        if not _take(now, address.packets):
            return False
        is_answer = len(packet) > _ANSWER_AT and packet[_ANSWER_AT] & _ANSWER_BIT
        return not is_answer or all(self._knows(node, address, now) for node in nodes)

    def _address(self, host: str, now: float) -> _Address:
        address = self._addresses.pop(host, None)
        if address is None:
            address = _Address(
                _measure(MDNS_PACKETS_PER_ADDRESS_S, MDNS_PACKETS_PER_ADDRESS_BURST, now),
                _measure(MDNS_NAMES_PER_ADDRESS_S, MDNS_NAMES_PER_ADDRESS_BURST, now),
            )
        self._addresses[host] = address
        if len(self._addresses) > MDNS_ADDRESSES_MAX:
            del self._addresses[next(iter(self._addresses))]
        return address

    def _knows(self, node: bytes, address: _Address, now: float) -> bool:
        if node in self._known:
            del self._known[node]
        elif not _take(now, address.names, self._names):
            return False
        self._known[node] = None
        if len(self._known) > MDNS_NAMES_KNOWN_MAX:
            del self._known[next(iter(self._known))]
        return True


class _Sieved(asyncio.DatagramProtocol):
    """Before another protocol; all but packets goes straight to it."""

    def __init__(self, inner: Any, sieve: Sieve) -> None:  # noqa: ANN401  # zeroconf's own, which has no public type
        self._inner = inner
        self._sieve = sieve

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)

    def error_received(self, exc: Exception) -> None:
        self._inner.error_received(exc)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # zeroconf keeps what it made and asks it this and that
        return getattr(self._inner, name)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        if self._sieve.passes(data, addr[0]):
            self._inner.datagram_received(data, addr)


class SievingLoop(asyncio.SelectorEventLoop):
    """Each datagram endpoint that is made here stands behind one sieve: zeroconf opens its own, several, and takes no other."""

    def __init__(self) -> None:
        super().__init__()
        self.sieve = Sieve()

    async def create_datagram_endpoint(self, protocol_factory: Callable[[], Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # asyncio's signature
        return await super().create_datagram_endpoint(lambda: _Sieved(protocol_factory(), self.sieve), *args, **kwargs)
