"""python-zeroconf and its asyncio loop, in one thread of their own: multicast must not stall transfers. What comes in passes
a `Sieve` first.

To the thread by `run_coroutine_threadsafe`, from it by `TrioToken.run_sync_soon` over a bounded queue whose overflow drops
the oldest. Each `Responder` is opened once; when interfaces change, the next one is.
"""

from __future__ import annotations

import asyncio
import ipaddress
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import trio
from zeroconf import IPVersion, ServiceInfo, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from p2pmodel.content import NodeId
from p2pmodel.discovery.announcement import SERVICE, Announcement
from p2pmodel.discovery.sieve import SievingLoop
from p2pmodel.limits import MDNS_RESOLVING_MAX, MDNS_WAITING_MAX

T = TypeVar("T")

_RESOLVE_TIMEOUT_MS: Final = 3000
_ADDRESSES_MAX: Final = 4  # of one node: it may be multi-homed, not a list of targets

Record = tuple[Sequence[str], dict[bytes, bytes | None]]  # addresses, TXT


class Loop:
    """An asyncio loop in a thread. Waiting for it from trio can be cancelled; what runs there is cancelled with it."""

    def __init__(self) -> None:
        self._loop = SievingLoop()
        self._thread = threading.Thread(target=self._run, name="mdns", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    @property
    def sieved(self) -> int:
        """Packets that were not looked at."""
        return self._loop.sieve.dropped

    async def call(self, work: Coroutine[Any, Any, T], deadline_s: float) -> T:
        """The result of a coroutine there. Raises what it raises, and trio.TooSlowError."""
        token, done = trio.lowlevel.current_trio_token(), trio.Event()
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        future.add_done_callback(lambda _: _soon(token, done.set))
        try:
            with trio.fail_after(deadline_s):
                await done.wait()
        finally:
            future.cancel()
        return future.result()

    async def aclose(self) -> None:
        """Raises trio.TooSlowError if the thread hangs; as a daemon it cannot hold up the exit."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._thread.join)


class Inbox:
    """Records on their way to the trio thread."""

    def __init__(self, received: Callable[[Record], None]) -> None:
        self.dropped = 0
        self._received = received
        self._token = trio.lowlevel.current_trio_token()
        self._waiting: deque[Record] = deque(maxlen=MDNS_WAITING_MAX)

    def put(self, record: Record) -> None:
        """From the other thread."""
        self.dropped += len(self._waiting) == MDNS_WAITING_MAX
        self._waiting.append(record)
        _soon(self._token, self._drain)

    def _drain(self) -> None:
        while self._waiting:
            self._received(self._waiting.popleft())


def _soon(token: trio.lowlevel.TrioToken, function: Callable[[], object]) -> None:
    with suppress(trio.RunFinishedError):  # the house is gone already
        token.run_sync_soon(function, idempotent=True)  # many calls before the next turn are one


class Responder:
    """Lives in the loop's thread: announces one node, listens to all others."""

    def __init__(self, interfaces: Sequence[str], inbox: Inbox) -> None:
        """Raises OSError where there is no multicast."""
        self._inbox = inbox
        self._zeroconf = AsyncZeroconf(interfaces=list(interfaces), ip_version=IPVersion.V4Only)
        self._browser = AsyncServiceBrowser(self._zeroconf.zeroconf, SERVICE, handlers=[self._changed])
        self._info: ServiceInfo | None = None
        self._resolving: set[asyncio.Task[None]] = set()

    async def announce(self, announcement: Announcement, addresses: Sequence[str], generation: int) -> None:
        """Say it, thrice as the RFC has it."""
        info = _info(announcement, addresses, generation)
        if self._info is None:
            # No probing for a free name, which takes 2 s: a node id belongs to one node.
            said = await self._zeroconf.async_register_service(info, cooperating_responders=True)
        else:
            said = await self._zeroconf.async_update_service(info)
        self._info = info
        await said

    async def aclose(self) -> None:
        """Say goodbye and stop."""
        await self._browser.async_cancel()
        for task in self._resolving:
            task.cancel()
        await self._zeroconf.async_close()

    def _changed(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is ServiceStateChange.Removed:
            return  # the link knows better whether a peer is there
        info = AsyncServiceInfo(service_type, name)
        if info.load_from_cache(zeroconf):
            self._inbox.put(_record(info))
        elif len(self._resolving) < MDNS_RESOLVING_MAX:
            task = asyncio.get_running_loop().create_task(self._resolve(zeroconf, info))
            self._resolving.add(task)
            task.add_done_callback(self._resolving.discard)

    async def _resolve(self, zeroconf: Zeroconf, info: AsyncServiceInfo) -> None:
        if await info.async_request(zeroconf, _RESOLVE_TIMEOUT_MS):
            self._inbox.put(_record(info))


def _record(info: AsyncServiceInfo) -> Record:
    return info.parsed_addresses(IPVersion.V4Only)[:_ADDRESSES_MAX], info.properties


def _info(announcement: Announcement, addresses: Sequence[str], generation: int) -> ServiceInfo:
    node: NodeId = announcement.node
    return ServiceInfo(
        SERVICE,
        f"{node}.{SERVICE}",
        port=announcement.port,
        addresses=[ipaddress.ip_address(address).packed for address in addresses],
        properties=announcement.to_txt(generation),
        server=f"{node}.local.",  # no host names: they are nobody's business
    )
