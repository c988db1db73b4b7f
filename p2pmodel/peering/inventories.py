"""What the peers hold, as they last told us: for `p2pmodel list` and `info`. A fetch asks the peers themselves (Interest)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from p2pmodel.content import BlobId, NodeId
from p2pmodel.limits import INVENTORY_ENTRIES_KEPT_MAX
from p2pmodel.wire.messages import Inventory
from p2pmodel.wire.packed import SEALED, InventoryEntry, unpack_entries


@dataclass(frozen=True, slots=True)
class _Bookmark:
    """How far we have read a peer's inventory."""

    boot: bytes
    sequence: int


class Inventories:
    """Holders by blob: blobs are few and peers many, so a blob's name is kept once."""

    def __init__(self) -> None:
        self._read: dict[NodeId, _Bookmark] = {}
        self._holders: dict[BlobId, dict[NodeId, int]] = {}
        self._counts: Counter[NodeId] = Counter()
        self._kept = 0

    def behind(self, peer: NodeId, boot: bytes, sequence: int) -> bool:
        """Whether the peer's inventory has moved since we read it."""
        return self._read.get(peer) != _Bookmark(boot, sequence)

    def since(self, peer: NodeId, boot: bytes) -> int:
        """From which sequence number to ask; 0 if we know nothing of this boot."""
        read = self._read.get(peer)
        return read.sequence if read and read.boot == boot else 0

    def update(self, peer: NodeId, pages: Sequence[Inventory]) -> None:
        """Take the pages of one answer. What goes beyond the bound of all inventories together is not kept."""
        if pages[0].whole:
            self.forget(peer)
        for page in pages:
            for entry in unpack_entries(page.entries):
                self._note(peer, entry)
        self._read[peer] = _Bookmark(pages[0].boot, pages[0].sequence)

    def forget(self, peer: NodeId) -> None:
        self._read.pop(peer, None)
        if self._counts[peer]:
            for blob in [blob for blob, holders in self._holders.items() if peer in holders]:
                self._drop(peer, blob)
        del self._counts[peer]

    def holders(self, blob: BlobId) -> dict[NodeId, int]:
        """Who holds it, and how: 1 in part, 2 sealed."""
        return dict(self._holders.get(blob, {}))

    def whole(self, blob: BlobId) -> bool:
        """Whether anybody has all of it."""
        return SEALED in self._holders.get(blob, {}).values()

    def count(self, peer: NodeId) -> int:
        """How many blobs a peer holds."""
        return self._counts[peer]

    def _note(self, peer: NodeId, entry: InventoryEntry) -> None:
        known = peer in self._holders.get(entry.blob, {})
        if not entry.state:
            if known:
                self._drop(peer, entry.blob)
        elif known:
            self._holders[entry.blob][peer] = entry.state
        elif self._kept < INVENTORY_ENTRIES_KEPT_MAX:
            self._counts[peer] += 1
            self._kept += 1
            self._holders.setdefault(entry.blob, {})[peer] = entry.state

    def _drop(self, peer: NodeId, blob: BlobId) -> None:
        self._counts[peer] -= 1
        self._kept -= 1
        holders = self._holders[blob]
        del holders[peer]
        if not holders:
            del self._holders[blob]
