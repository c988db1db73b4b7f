"""What multicast DNS says of this node, and says anew when the store's inventory has moved."""

from __future__ import annotations

from collections.abc import Callable

import trio

from p2pmodel.content import NodeId
from p2pmodel.content.blob_filter import BlobFilter
from p2pmodel.discovery import Announcement, Mdns
from p2pmodel.limits import ANNOUNCE_GAP_MIN_S
from p2pmodel.peering import LiveMembership, Peering
from p2pmodel.settings import Settings
from p2pmodel.store import Store


class Announcing:
    """Be found by others of the cluster, and hear of them, until `leave`."""

    def __init__(
        self, settings: Settings, store: Store, peering: Peering, membership: LiveMembership, *, node: NodeId, boot: bytes
    ) -> None:
        self._advertise = settings.peering.advertise
        self._interfaces = settings.discovery.interfaces
        self._peering = peering
        self._membership = membership
        self._node = node
        self._boot = boot
        self._store = store
        self._filtered: tuple[tuple[int, bytes], BlobFilter] | None = None
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        mdns = Mdns(
            self._announcement,
            self._peering.heard,
            interfaces=self._interfaces,
            advertise=self._advertise.host if self._advertise else None,
            tags=lambda: self._membership.tags,
        )
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(mdns.run)
                await self._follow(mdns.changed)

    def leave(self) -> None:
        self._scope.cancel()

    def _announcement(self) -> Announcement:
        sequence, digest = self._store.inventory()
        return Announcement(
            node=self._node,
            tag=self._membership.now.current.tag,
            port=self._advertise.port if self._advertise else self._peering.port,
            boot=self._boot,
            sequence=sequence,
            digest=digest,
            filter=self._filter(sequence),
        )

    def _filter(self, sequence: int) -> BlobFilter | None:
        """The keyed filter of what is held sealed at this sequence; None without a key that strangers lack."""
        key = self._membership.now.current.filter_key
        if key is None:
            return None
        if self._filtered is None or self._filtered[0] != (sequence, key):
            held = [state.blob.id for state in self._store.blobs() if state.sealed and not state.private]
            self._filtered = (sequence, key), BlobFilter.of(held, key)
        return self._filtered[1]

    async def _follow(self, changed: Callable[[], None]) -> None:
        """Call `changed` when the inventory has moved; at most once a second, as nobody may announce faster."""
        last = self._store.inventory()
        while True:
            await trio.sleep(ANNOUNCE_GAP_MIN_S)
            now = self._store.inventory()
            if now != last:
                last = now
                changed()
