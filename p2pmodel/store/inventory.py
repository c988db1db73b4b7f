"""What peers may know of this store: its public blobs, a number that rises with every change, and a digest of it all."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence

import blake3

from p2pmodel.content import Blob
from p2pmodel.limits import INVENTORY_CHANGES_MAX
from p2pmodel.wire.packed import REMOVED, InventoryEntry, pack_entries


class Inventory:
    """Not thread-safe: its owner holds a lock."""

    def __init__(self) -> None:
        self.sequence = 1  # 0 is what a peer says that knows nothing
        self._states: dict[Blob, int] = {}
        self._packed: list[bytes] = []  # sorted; one entry each
        self._changes: deque[tuple[int, InventoryEntry]] = deque(maxlen=INVENTORY_CHANGES_MAX)
        self._digest: bytes | None = None

    def begin_with(self, states: dict[Blob, int]) -> None:
        """What is there at start: no changes, so no history."""
        self._states = dict(states)
        self._packed = sorted(_packed(blob, state) for blob, state in states.items())
        self._digest = None

    def set(self, blob: Blob, state: int) -> None:
        old = self._states.get(blob, REMOVED)
        if old == state:
            return
        if old != REMOVED:
            del self._packed[bisect_left(self._packed, _packed(blob, old))]
            del self._states[blob]
        if state != REMOVED:
            new = _packed(blob, state)
            self._packed.insert(bisect_left(self._packed, new), new)
            self._states[blob] = state
        self.sequence += 1
        self._changes.append((self.sequence, InventoryEntry(blob.id, blob.size, state)))
        self._digest = None

    @property
    def digest(self) -> bytes:
        """16 bytes of BLAKE3 over the packed entries, sorted."""
        if self._digest is None:
            self._digest = blake3.blake3(b"".join(self._packed)).digest(length=16)
        return self._digest

    def since(self, sequence: int) -> Sequence[InventoryEntry] | None:
        """The latest change of each blob that changed after `sequence`; None when that is not told by what we remember."""
        oldest = self.sequence - len(self._changes)
        if not oldest <= sequence <= self.sequence:
            return None
        return list({entry.blob: entry for number, entry in self._changes if number > sequence}.values())


def _packed(blob: Blob, state: int) -> bytes:
    return pack_entries([InventoryEntry(blob.id, blob.size, state)])
