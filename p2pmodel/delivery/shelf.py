"""Open blobs, kept open for a while: what was checked against its digests since it was opened need not be hashed again."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from p2pmodel.content import Blob, BlobId
from p2pmodel.delivery.ports import Blocking, Store, StoredBlob

OPEN_BLOBS_MAX: Final = 128  # file descriptors; a model of 100 shards stays open as a whole


class Shelf:
    """The store hands out one live object per blob and counts its users; the shelf is one of them."""

    def __init__(self, store: Store, blocking: Blocking) -> None:
        self._store = store
        self._blocking = blocking
        self._blobs: OrderedDict[BlobId, StoredBlob] = OrderedDict()

    async def open(self, blob: Blob, *, private: bool) -> StoredBlob:
        """The blob, open as long as it stays among the last OPEN_BLOBS_MAX used. Raises StoreError."""
        stored = self._blobs.get(blob.id)
        if stored is None or (stored.private and not private):
            opened = await self._blocking(lambda: self._store.open(blob, private=private))
            if blob.id in self._blobs:
                opened.close()
            else:
                self._blobs[blob.id] = opened
            stored = self._blobs[blob.id]
        self._blobs.move_to_end(blob.id)
        while len(self._blobs) > OPEN_BLOBS_MAX:
            self._blobs.popitem(last=False)[1].close()
        return stored

    def close(self) -> None:
        while self._blobs:
            self._blobs.popitem()[1].close()
