"""Tells peers what comes of a blob and what we are reading from the hub, in batches: those who watch it, everything; those who
only want it, when it is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import trio

from p2pmodel.content import BlobId, NodeId
from p2pmodel.delivery.ports import Neighbours
from p2pmodel.limits import INDICES_PER_MESSAGE_MAX, RUNS_PER_MESSAGE_MAX, WATCHES_PER_PEER_MAX
from p2pmodel.swarm import Swarm
from p2pmodel.wire.messages import Claims, Have, Held, Message
from p2pmodel.wire.packed import pack_indices, pack_runs

BATCH_S: Final = 0.1  # a 10 Gbit/s node gets 300 chunks/s: ten frames instead of three hundred
_WATCHERS_PER_BATCH: Final = 16  # more of them are told less often: what a node hears must not grow with the cluster


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
        self._wanted: dict[BlobId, dict[NodeId, bool]] = {}  # by whom, and whether it watches
        self._wants: dict[NodeId, dict[BlobId, None]] = {}  # the same, by peer
        self._arrived: dict[BlobId, list[int]] = {}
        self._given: dict[BlobId, set[int]] = {}  # to anybody, since somebody has watched
        self._giving: dict[BlobId, list[int]] = {}
        self._ordered: dict[BlobId, Swarm] = {}
        self._lost: dict[BlobId, Callable[[], Have]] = {}
        self._news = trio.Event()

    def wants(self, blob: BlobId, peer: NodeId, *, watch: bool) -> None:
        """Until `wants_no_more`; of too many blobs that one peer wants, the first is forgotten."""
        wants = self._wants.setdefault(peer, {})
        wants[blob] = None
        self._wanted.setdefault(blob, {})[peer] = watch
        if len(wants) > WATCHES_PER_PEER_MAX:
            self.wants_no_more(next(iter(wants)), peer)

    def wants_no_more(self, blob: BlobId, peer: NodeId) -> None:
        if (wanted := self._wanted.get(blob)) is not None and peer in wanted:
            del wanted[peer], self._wants[peer][blob]
            if not wanted:
                del self._wanted[blob]
                self._given.pop(blob, None)

    def forget(self, peer: NodeId) -> None:
        for blob in list(self._wants.get(peer, ())):
            self.wants_no_more(blob, peer)
        self._wants.pop(peer, None)

    def watchers(self, blob: BlobId) -> list[NodeId]:
        """Whom to tell of all that happens to a blob."""
        return [peer for peer, watches in self._who_want(blob).items() if watches]

    def _who_want(self, blob: BlobId) -> dict[NodeId, bool]:
        wanted = self._wanted.get(blob, {})
        if wanted and self._private(blob):
            return {peer: watches for peer, watches in wanted.items() if self._admits(peer, blob)}
        return wanted

    def complete(self, blob: BlobId, have: Have) -> None:
        """It is all here, or some of it no more: told to whoever wants it."""
        for peer in self._who_want(blob):
            self._neighbours.send(peer, have)

    def arrived(self, blob: BlobId, chunk: int) -> None:
        """A chunk can be had here now; told with the next batch."""
        if self.watchers(blob):
            self._arrived.setdefault(blob, []).append(chunk)
            self._news.set()

    def lost(self, blob: BlobId, have: Callable[[], Have]) -> None:
        """Some of it cannot be had here any more: with the next batch whoever wants it is told what can. Who does not watch may
        have heard of it all the same, and would wait for it."""
        if self._who_want(blob):
            self._lost[blob] = have
            self._news.set()

    def gives(self, blob: BlobId, chunk: int) -> None:
        """We hold all of it and give this chunk to somebody; told once, with the next batch: others fetch others first."""
        if len(self.watchers(blob)) > 1 and chunk not in (given := self._given.setdefault(blob, set())):
            given.add(chunk)
            self._giving.setdefault(blob, []).append(chunk)
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
            blobs = {*self._arrived, *self._giving, *self._ordered, *self._lost}
            told = max((len(self.watchers(blob)) for blob in blobs), default=0)
            self.flush()
            await trio.sleep(BATCH_S * max(1.0, told / _WATCHERS_PER_BATCH))

    def flush(self) -> None:
        for blob in list(self._arrived):
            self._tell_arrived(blob)
        for blob in list(self._lost):
            self.complete(blob, self._lost.pop(blob)())
        for blob in list(self._giving):
            for batch in _batches(self._giving.pop(blob)):
                self.tell(blob, Held(blob=blob.to_bytes(), chunks=b"", given=batch))
        for swarm in list(self._ordered.values()):
            self.claims(swarm)

    def _tell_arrived(self, blob: BlobId) -> None:
        for batch in _batches(self._arrived.pop(blob, [])):
            self.tell(blob, Held(blob=blob.to_bytes(), chunks=batch))


def _batches(chunks: Sequence[int]) -> Iterator[bytes]:
    for start in range(0, len(chunks), INDICES_PER_MESSAGE_MAX):
        yield pack_indices(chunks[start : start + INDICES_PER_MESSAGE_MAX])


def claims_of(swarm: Swarm) -> Claims:
    claims = swarm.own_claims(trio.current_time())
    runs, coming, firm = (pack_runs(runs[:RUNS_PER_MESSAGE_MAX]) for runs in claims)
    return Claims(blob=swarm.blob.id.to_bytes(), runs=runs, coming=coming, firm=firm)
