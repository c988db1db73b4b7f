"""Open blobs, kept open for a while: opening one reads its digests, which is too much for each chunk that a peer asks for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from p2pmodel.content import Blob, BlobId
from p2pmodel.delivery.blocking import Blocking
from p2pmodel.delivery.ports import Store, StoredBlob

OPEN_BLOBS_MAX: Final = 128  # file descriptors; a model of 100 shards stays open as a whole
SHELF_IDLE_S: Final = 30.0


class Shelf:
    """The store hands out one live object per blob and counts its users: whoever borrows is one, the shelf is another."""

    def __init__(self, store: Store, blocking: Blocking) -> None:
        self._store = store
        self._blocking = blocking
        self._kept: OrderedDict[BlobId, StoredBlob] = OrderedDict()  # last borrowed last
        self._borrowed_at: dict[BlobId, float] = {}

    async def run(self) -> None:
        """Puts back what nobody has borrowed for a while: the store evicts nothing that is open."""
        while True:
            await trio.sleep(SHELF_IDLE_S)
            before = trio.current_time() - SHELF_IDLE_S
            while self._kept and self._borrowed_at[next(iter(self._kept))] <= before:
                await self._put_back_oldest()

    @asynccontextmanager
    async def borrow(self, blob: Blob, *, private: bool) -> AsyncIterator[StoredBlob]:
        """The blob, open; it stays so for a while afterwards. Raises StoreError."""
        stored = await self._open(blob, private=private)
        try:
            await self._keep(blob, private=private)
            yield stored
        finally:
            await self._close(stored)

    async def close(self) -> None:
        while self._kept:
            await self._put_back_oldest()

    async def _put_back_oldest(self) -> None:
        blob, stored = self._kept.popitem(last=False)
        del self._borrowed_at[blob]
        await self._close(stored)

    async def _keep(self, blob: Blob, *, private: bool) -> None:
        if blob.id in self._kept:
            self._kept.move_to_end(blob.id)
            self._borrowed_at[blob.id] = trio.current_time()
            return
        stored = await self._open(blob, private=private)
        if blob.id in self._kept:
            await self._close(stored)
            return
        self._kept[blob.id] = stored
        self._borrowed_at[blob.id] = trio.current_time()
        while len(self._kept) > OPEN_BLOBS_MAX:
            await self._put_back_oldest()

    async def _open(self, blob: Blob, *, private: bool) -> StoredBlob:
        return await self._blocking(lambda: self._store.open(blob, private=private))

    async def _close(self, stored: StoredBlob) -> None:
        with trio.CancelScope(shield=True):  # a last user may have chunks to record: a disk's time, no more
            await self._blocking(stored.close)
