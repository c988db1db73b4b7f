"""The chunks in memory: a fixed number of buffers for the whole daemon, so that its size does not depend on its load."""

from __future__ import annotations

import mmap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from p2pmodel.limits import BUFFERS, BUFFERS_OF_PEERS, CHUNK_BYTES


class Buffers:
    """Page-aligned buffers of CHUNK_BYTES, made when first needed, reused for ever; private, so that they count as ours."""

    def __init__(self, count: int = BUFFERS, of_peers: int = BUFFERS_OF_PEERS) -> None:
        self._places = trio.Semaphore(count)
        self._places_of_peers = trio.Semaphore(of_peers)
        self._free: list[memoryview] = []

    @asynccontextmanager
    async def take_for_peer(self) -> AsyncIterator[memoryview]:
        """The same for a peer's bytes, which may come as slowly as the peer likes: the peers together never have them all."""
        async with self._places_of_peers, self.take() as buffer:
            yield buffer

    @asynccontextmanager
    async def take(self) -> AsyncIterator[memoryview]:
        """Waits while all are in use. Whoever holds one must be able to go on without a second."""
        async with self._places:
            buffer = (
                self._free.pop()
                if self._free
                else memoryview(mmap.mmap(-1, CHUNK_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
            )
            try:
                yield buffer
            finally:
                self._free.append(buffer)
