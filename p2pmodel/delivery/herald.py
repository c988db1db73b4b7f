"""Tells the peers that watch a blob what has come and what we are reading from the hub: in batches, only to those who asked."""

from __future__ import annotations

from typing import Final

import trio

from p2pmodel.content import BlobId, NodeId
from p2pmodel.delivery.ports import Neighbours
from p2pmodel.wire.messages import Claims, Held, Message, pack_indices, pack_runs

BATCH_S: Final = 0.1  # a 10 Gbit/s node gets 300 chunks/s: ten frames instead of three hundred
_INDICES_PER_FRAME_MAX: Final = 8000


class Herald:
    def __init__(self, neighbours: Neighbours) -> None:
        self._neighbours = neighbours
        self._watchers: dict[BlobId, dict[NodeId, None]] = {}
        self._arrived: dict[BlobId, list[int]] = {}
        self._news = trio.Event()

    def watch(self, blob: BlobId, peer: NodeId) -> None:
        self._watchers.setdefault(blob, {})[peer] = None

    def unwatch(self, blob: BlobId, peer: NodeId) -> None:
        if (watchers := self._watchers.get(blob)) is not None:
            watchers.pop(peer, None)
            if not watchers:
                del self._watchers[blob]

    def forget(self, peer: NodeId) -> None:
        for blob in [blob for blob, watchers in self._watchers.items() if peer in watchers]:
            self.unwatch(blob, peer)

    def watchers(self, blob: BlobId) -> list[NodeId]:
        return list(self._watchers.get(blob, ()))

    def arrived(self, blob: BlobId, chunk: int) -> None:
        """A chunk can be had here now; told with the next batch."""
        if blob in self._watchers:
            self._arrived.setdefault(blob, []).append(chunk)
            self._news.set()

    def claims(self, blob: BlobId, runs: list[tuple[int, int]]) -> None:
        """What we are reading from the hub, told at once: a claim that comes late is a chunk read twice."""
        self.tell(blob, Claims(blob=blob.to_bytes(), runs=pack_runs(runs)))

    def tell(self, blob: BlobId, message: Message) -> None:
        for peer in self.watchers(blob):
            self._neighbours.send(peer, message)

    async def run(self) -> None:
        while True:
            await self._news.wait()
            self._news = trio.Event()
            self.flush()
            await trio.sleep(BATCH_S)

    def flush(self) -> None:
        arrived, self._arrived = self._arrived, {}
        for blob, chunks in arrived.items():
            for start in range(0, len(chunks), _INDICES_PER_FRAME_MAX):
                batch = pack_indices(chunks[start : start + _INDICES_PER_FRAME_MAX])
                self.tell(blob, Held(blob=blob.to_bytes(), chunks=batch))
