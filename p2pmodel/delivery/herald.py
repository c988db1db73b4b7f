"""Tells the peers that watch a blob what has come and what we are reading from the hub: in batches, only to those who asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from p2pmodel.content import BlobId, NodeId
from p2pmodel.delivery.ports import Neighbours
from p2pmodel.limits import RUNS_PER_MESSAGE_MAX, WATCHES_PER_PEER_MAX
from p2pmodel.swarm import Swarm
from p2pmodel.wire.messages import Claims, Held, Message, pack_indices, pack_runs

BATCH_S: Final = 0.1  # a 10 Gbit/s node gets 300 chunks/s: ten frames instead of three hundred
_INDICES_PER_FRAME_MAX: Final = 8000


def _none_is(_blob: BlobId) -> bool:
    return False


def _nobody(_peer: NodeId, _blob: BlobId) -> bool:
    return False


class Herald:
    """Whoever knows the name of a blob may watch it; of a `private` one only those are told whom `admits` lets in."""

    def __init__(
        self,
        neighbours: Neighbours,
        private: Callable[[BlobId], bool] = _none_is,
        admits: Callable[[NodeId, BlobId], bool] = _nobody,
    ) -> None:
        self._neighbours = neighbours
        self._private = private
        self._admits = admits
        self._watchers: dict[BlobId, dict[NodeId, None]] = {}
        self._watched: dict[NodeId, dict[BlobId, None]] = {}  # the same, by peer
        self._arrived: dict[BlobId, list[int]] = {}
        self._ordered: dict[BlobId, Swarm] = {}
        self._news = trio.Event()

    def watch(self, blob: BlobId, peer: NodeId) -> None:
        """Until `unwatch`; of too many blobs that one peer watches, the first is forgotten."""
        watched = self._watched.setdefault(peer, {})
        watched[blob] = None
        self._watchers.setdefault(blob, {})[peer] = None
        if len(watched) > WATCHES_PER_PEER_MAX:
            self.unwatch(next(iter(watched)), peer)

    def unwatch(self, blob: BlobId, peer: NodeId) -> None:
        if (watchers := self._watchers.get(blob)) is not None and peer in watchers:
            del watchers[peer], self._watched[peer][blob]
            if not watchers:
                del self._watchers[blob]

    def forget(self, peer: NodeId) -> None:
        for blob in list(self._watched.get(peer, ())):
            self.unwatch(blob, peer)
        self._watched.pop(peer, None)

    def watchers(self, blob: BlobId) -> list[NodeId]:
        """Whom to tell of a blob."""
        watchers = self._watchers.get(blob)
        if not watchers:
            return []
        return [peer for peer in watchers if self._admits(peer, blob)] if self._private(blob) else list(watchers)

    def arrived(self, blob: BlobId, chunk: int) -> None:
        """A chunk can be had here now; told with the next batch."""
        if self.watchers(blob):
            self._arrived.setdefault(blob, []).append(chunk)
            self._news.set()

    def claims(self, swarm: Swarm) -> None:
        """What we are reading from the hub, told at once: a claim that comes late is a chunk read twice. What has come goes
        first, or a chunk would for a moment be neither claimed nor held."""
        self._ordered.pop(swarm.blob.id, None)
        self._tell_arrived(swarm.blob.id)
        if self.watchers(swarm.blob.id):
            self.tell(swarm.blob.id, claims_of(swarm))

    def ordered(self, swarm: Swarm) -> None:
        """What we ask of peers changed; told with the next batch."""
        if self.watchers(swarm.blob.id):
            self._ordered[swarm.blob.id] = swarm
            self._news.set()

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
        for blob in list(self._arrived):
            self._tell_arrived(blob)
        for swarm in list(self._ordered.values()):
            self.claims(swarm)

    def _tell_arrived(self, blob: BlobId) -> None:
        chunks = self._arrived.pop(blob, [])
        for start in range(0, len(chunks), _INDICES_PER_FRAME_MAX):
            batch = pack_indices(chunks[start : start + _INDICES_PER_FRAME_MAX])
            self.tell(blob, Held(blob=blob.to_bytes(), chunks=batch))


def claims_of(swarm: Swarm) -> Claims:
    runs, coming = (pack_runs(runs[:RUNS_PER_MESSAGE_MAX]) for runs in swarm.own_claims())
    return Claims(blob=swarm.blob.id.to_bytes(), runs=runs, coming=coming)
