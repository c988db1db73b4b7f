"""Which chunks only our own read of the hub will do for: clients wait for them, the blob's own hash was wrong, or two signers
differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pmodel.content import ChunkMap

if TYPE_CHECKING:
    from collections.abc import Iterable


class Reads:
    """`own` is the store's live map of what we read from the hub ourselves."""

    def __init__(self, chunks: int, own: ChunkMap) -> None:
        self.wanted = ChunkMap(chunks)
        self.distrusted = ChunkMap(chunks)  # of those: because the blob's own hash was wrong
        self.disputed = ChunkMap(chunks)  # two signers differ over their digests: our own read settles it
        self._chunks = chunks
        self._own = own
        self._came = ChunkMap(chunks)  # in this download: a mirror's bytes do not get better by reading them twice
        self._ranges: dict[int, range] = {}  # by reader

    def begin(self, reader: int, chunks: range, *, own: bool) -> None:
        """A client wants this range next. `own`: its bytes must be our own read of the hub (DESIGN §9.1)."""
        self._ranges[reader] = chunks
        if own:
            self.wanted = self.wanted | (ChunkMap.span(self._chunks, chunks) - self._came)

    def end(self, reader: int) -> None:
        self._ranges.pop(reader, None)
        if not self._ranges:
            self.wanted = self.distrusted.copy()

    def distrust(self, chunks: ChunkMap) -> None:
        """The blob's own hash was wrong: these chunks, which came from others, are read again from the hub."""
        self.distrusted = self.distrusted | chunks
        self.wanted = self.wanted | chunks

    def trust_again(self) -> None:
        """What was to be read again need not be, but for what clients wait for."""
        unread = self.distrusted
        for wanted in self.ranges:
            unread = unread - wanted
        self.wanted = self.wanted - unread
        self.distrusted = ChunkMap(self._chunks)

    def came(self, chunk: int) -> None:
        """What the hub gave is as much our own as it will get, mirror or not."""
        self._came.add(chunk)
        self.spare(chunk)

    def spare(self, chunk: int) -> None:
        """Nobody need read it any more: it came, or it is proven."""
        for chunks in (self.wanted, self.distrusted, self.disputed):
            chunks.discard(chunk)

    @property
    def ranges(self) -> Iterable[ChunkMap]:
        """What each client wants next, those that came first before the others."""
        return (ChunkMap.span(self._chunks, chunks) for chunks in self._ranges.values())

    @property
    def first(self) -> int:
        """The first chunk that a client waits for, 0 if none does."""
        return min((chunks.start for chunks in self._ranges.values()), default=0)

    @property
    def clients(self) -> bool:
        """Whether anybody waits."""
        return bool(self._ranges)

    @property
    def missing(self) -> ChunkMap:
        return self.wanted - self._own

    @property
    def made(self) -> ChunkMap:
        """What we read ourselves, or are about to."""
        return self._own | self._came | self.wanted

    @property
    def due(self) -> ChunkMap:
        return (self.wanted | self.disputed) - self._own
