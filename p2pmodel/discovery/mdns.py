"""Multicast DNS as a hint: announces this node, hears of others, never raises into the house.

Re-announces every REANNOUNCE_S with a changed record, since two groups of nodes that were joined later found each other
only by that; who is alive is the link's business.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import ifaddr
import structlog
import trio
import zeroconf

from p2pmodel.content import NodeId
from p2pmodel.discovery.announcement import Announcement
from p2pmodel.discovery.responder import Inbox, Loop, Record, Responder
from p2pmodel.limits import ANNOUNCE_GAP_MIN_S, MDNS_PRESENT_MAX, MDNS_RETRY_S, REANNOUNCE_S
from p2pmodel.network import Address, Candidate

log = structlog.get_logger()

_ANNOUNCE_TIMEOUT_S: Final = 10.0
_LEAVE_TIMEOUT_S: Final = 2.0
_FAILURES: Final = (OSError, zeroconf.Error, RuntimeError, trio.TooSlowError)


def interface_addresses() -> list[str]:
    """The IPv4 addresses of this machine that others can reach."""
    found = [address.ip for adapter in ifaddr.get_adapters() for address in adapter.ips if isinstance(address.ip, str)]
    return [ip for ip in found if not ipaddress.ip_address(ip).is_loopback]


def _is_ipv4(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 4  # noqa: PLR2004  # the version is what the number says
    except ValueError:
        return False


@dataclass(slots=True)
class MdnsStatistics:
    announced: int = 0
    heard: int = 0
    malformed: int = 0
    other_clusters: int = 0
    dropped: int = 0  # came faster than we looked
    sieved: int = 0  # too many from one address, of new nodes, or of other services
    failures: int = 0


class Mdns:
    """`announcement` says what stands at the moment; `heard` gets a candidate for each address of each other node.

    `interfaces` are addresses, empty for all. `tags` are those of our cluster: two while it changes its key. `present` is what
    the nodes of our cluster last said of themselves.
    """

    def __init__(
        self,
        announcement: Callable[[], Announcement],
        heard: Callable[[Candidate], None],
        *,
        interfaces: Sequence[str] = (),
        advertise: str | None = None,
        tags: Callable[[], Collection[str]] | None = None,
        own_addresses: Callable[[], Sequence[str]] = interface_addresses,
    ) -> None:
        self.statistics = MdnsStatistics()
        self.present: dict[NodeId, Announcement] = {}
        self._announcement = announcement
        self._heard = heard
        self._interfaces = tuple(interfaces)
        self._advertise = [advertise] if advertise and _is_ipv4(advertise) else []  # a name is for links, not for records
        self._own_addresses = own_addresses
        self._tags = tags or (lambda: {announcement().tag})
        self._generation = 0
        self._stirred = trio.Event()
        self._failing = False

    def changed(self) -> None:
        """Our inventory moved: say so soon, at most every ANNOUNCE_GAP_MIN_S."""
        self._stirred.set()

    async def run(self) -> None:
        """Until cancelled; then says goodbye."""
        while True:
            try:
                await self._announce_from(list(self._interfaces or self._own_addresses()))
            except _FAILURES as error:
                self._failed(error)
                await trio.sleep(MDNS_RETRY_S)

    async def _announce_from(self, addresses: list[str]) -> None:
        """Announce through these interfaces until they change."""
        if not addresses:
            raise OSError("no interface with an IPv4 address")
        loop, inbox = Loop(), Inbox(self._received)
        responder: Responder | None = None
        try:
            with trio.CancelScope(shield=True):  # what is half open could not be closed
                responder = opened = await loop.call(_open(addresses, inbox), _ANNOUNCE_TIMEOUT_S)
            while self._interfaces or list(self._own_addresses()) == addresses:
                self._stirred = trio.Event()
                await self._announce(loop, opened, addresses)
                self.statistics.dropped, self.statistics.sieved = inbox.dropped, loop.sieved
                await self._pause()
        finally:
            await _leave(loop, responder)

    async def _announce(self, loop: Loop, responder: Responder, addresses: Sequence[str]) -> None:
        self._generation += 1
        work = responder.announce(self._announcement(), self._advertise or addresses, self._generation)
        await loop.call(work, _ANNOUNCE_TIMEOUT_S)
        self.statistics.announced += 1
        if self._failing:
            self._failing = False
            log.info("mdns.works_again")

    async def _pause(self) -> None:
        await trio.sleep(ANNOUNCE_GAP_MIN_S)
        with trio.move_on_after(REANNOUNCE_S - ANNOUNCE_GAP_MIN_S):
            await self._stirred.wait()

    def _failed(self, error: Exception) -> None:
        self.statistics.failures += 1
        if not self._failing:  # once, not every MDNS_RETRY_S
            self._failing = True
            log.warning("mdns.impossible", error=str(error) or type(error).__name__, retry_s=MDNS_RETRY_S)

    def _received(self, record: Record) -> None:
        addresses, txt = record
        ours = self._announcement()
        try:
            theirs = Announcement.from_txt(txt)
        except ValueError:
            self.statistics.malformed += 1
            return
        if theirs.node == ours.node:
            return
        if theirs.tag not in self._tags():
            self.statistics.other_clusters += 1
            return
        self.statistics.heard += 1
        self.present.pop(theirs.node, None)
        while len(self.present) >= MDNS_PRESENT_MAX:
            del self.present[next(iter(self.present))]
        self.present[theirs.node] = theirs
        for address in addresses:
            self._heard(Candidate(Address(address, theirs.port), theirs.node, "mdns"))


async def _open(addresses: Sequence[str], inbox: Inbox) -> Responder:
    return Responder(addresses, inbox)


async def _leave(loop: Loop, responder: Responder | None) -> None:
    """Withdraw within a deadline, whatever is being cancelled around."""
    with trio.CancelScope(shield=True):
        try:
            if responder is not None:
                await loop.call(responder.aclose(), _LEAVE_TIMEOUT_S)
        except _FAILURES as error:
            log.debug("mdns.no_goodbye", error=str(error) or type(error).__name__)
        await loop.aclose()
