"""Blobs of the store, lent out one borrower at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

from p2pmodel.content import Blob
from p2pmodel.delivery.blocking import Blocking
from p2pmodel.delivery.ports import Store, StoredBlob


class Shelf:
    def __init__(self, store: Store, blocking: Blocking) -> None:
        self._store = store
        self._blocking = blocking

    @asynccontextmanager
    async def borrow(self, blob: Blob, *, private: bool) -> AsyncIterator[StoredBlob]:
        """The blob, open. It stays so for a while afterwards: opening one reads its digests, which is too much for each chunk
        that a peer asks for. Raises StoreError."""
        stored = await self._blocking(partial(self._store.open, blob, private=private))
        try:
            yield stored
        finally:
            with trio.CancelScope(shield=True):  # the last user may have chunks to record: a disk's time, no more
                await self._blocking(partial(stored.close, keep_open=True))
