"""A range of a file on its way to a client: in order, and never a byte that may not leave yet (DESIGN §9.1).

A sealed file's bytes may leave at once. Else the reader looks at what the swarm knows: where the hub's own root proves what
peers give, or enough members vouch for the blob, the range streams in order as its chunks come; where nobody else holds or
wants it, it streams from our own read of the hub; a small range of a large file is read from the hub by ourselves, unless
peers bring the whole file about as soon; everything else waits, before the headers, until the range may leave.
"""

from __future__ import annotations

from math import inf
from typing import Final

import trio

from p2pmodel.content import chunk_size, chunk_start, chunks_covering
from p2pmodel.delivery.blocking import Blocking
from p2pmodel.delivery.download import Download
from p2pmodel.delivery.ports import Span, StoredBlob
from p2pmodel.errors import StoreDamagedError, UnavailableError, WrongBytesError
from p2pmodel.limits import CHUNK_BYTES, LARGE_BLOB_BYTES, RANGE_WAIT_S, READER_WINDOW_CHUNKS, SMALL_RANGE_BYTES

_SPAN_CHUNKS_MAX: Final = 16  # 64 MiB: one thread hop and one fstat a chunk, then a long sendfile


class BlobReader:
    """Implements the `Reader` port. `download` is None for what is sealed already; `private`: the hub lets its
    client in."""

    def __init__(
        self, stored: StoredBlob, download: Download | None, start: int, stop: int, blocking: Blocking, *, private: bool
    ) -> None:
        self._stored = stored
        self._private = private
        self._download = download
        self._position = start
        self._stop = stop
        self._blocking = blocking
        self._chunks = chunks_covering(start, stop)
        self._streams = False
        self._own_read = False  # it streams, from our own read of the hub
        self._small = False
        self._began = 0.0
        self._given: dict[int, bytes] = {}  # what left on members' word: chunk → digest
        self.sources = "store"

    async def ready(self) -> None:
        if self._download is None or not self._chunks:
            return
        here = self._stored.held.holds(self._chunks) and self._may_leave(self._chunks)
        if not here:
            await self._start(self._download)
        self.sources = self._named_sources(self._download, here=here)

    async def _start(self, download: Download) -> None:
        while not download.settled(trio.current_time()):
            await download.change(until=download.swarm.wake_at(trio.current_time()))
        self._began = trio.current_time()
        self._small = self._stop - self._position <= SMALL_RANGE_BYTES and download.blob.size > LARGE_BLOB_BYTES
        self._choose(download)
        self._ask(download)
        while not self._may_leave(self._chunks[:1] if self._streams else self._chunks):
            await self._wait(download, until=self._began + 2 * RANGE_WAIT_S)
            if self._choose(download):
                self._ask(download)

    def _choose(self, download: Download) -> bool:
        """Whether the bytes will come in another way than was thought: as they are proven or members vouch for them, or by our
        own read, once the others are gone, or slower than it seemed."""
        before = self._streams, self._own_read
        last = download.swarm.chunks - 1  # which nobody's word lets leave
        vouched = download.vouching.agreed and not (self._small and last in self._chunks)
        if not self._own_read and (download.proving.pieces is not None or vouched):
            self._streams = True
        elif download.swarm.solo or (self._small and not self._peers_will_do(download)):
            self._streams = self._own_read = True
        return before != (self._streams, self._own_read)

    def _peers_will_do(self, download: Download) -> bool:
        now = trio.current_time()
        return download.swarm.peers_will_do(now - self._began, now)

    def _ask(self, download: Download) -> None:
        first = chunks_covering(self._position, self._stop)
        if self._own_read:
            download.swarm.reads.begin(id(self), first, own=True)
        else:
            window = download.proving.needed(first[:READER_WINDOW_CHUNKS])
            download.swarm.reads.begin(id(self), window, own=False)
        download.wake()

    async def next_span(self) -> Span | None:
        if self._position >= self._stop:
            return None
        first = self._position // CHUNK_BYTES
        await self._until_may_leave(first)
        last = await self._blocking(self._check_run, first)
        if self._stored.private and not self._private:  # withdrawn meanwhile: what lands there now was not given to everybody
            raise UnavailableError(f"{self._stored.blob.id} is being fetched for another user.", next_step="Ask again.")
        if last < first:
            raise StoreDamagedError(
                f"Chunk {first} of {self._stored.blob.id} changed on disk; it is being fetched again.",
                next_step="Ask again; run `p2pmodel doctor` if it comes back.",
            )
        stop = min(self._stop, chunk_start(last) + chunk_size(self._stored.blob.size, last))
        if self._download is not None:
            self._none_was_wrong(self._download)
            self._given |= self._download.vouching.leaving(range(first, last + 1))
        span = Span(self._stored.fileno(), self._position, stop - self._position)
        self._position = stop
        return span

    async def _until_may_leave(self, chunk: int) -> None:
        if not self._stored.sealed and self._download is not None:
            self._ask(self._download)
            while not self._may_leave(range(chunk, chunk + 1)):
                await self._wait(self._download)
                if self._streams and self._choose(self._download):
                    self._ask(self._download)

    def _none_was_wrong(self, download: Download) -> None:
        """A client must not take for the file what it was given on a false word: its answer ends short."""
        if self._given and not download.vouching.agreed:
            wrong = [chunk for chunk, digest in self._given.items() if self._stored.digest(chunk) != digest]
            if wrong:
                raise WrongBytesError(
                    f"Chunk {wrong[0]} of {self._stored.blob.id} was not what the members said who vouched for it.",
                    next_step="Remove what has come of the file, and ask again; `p2pmodel why` names them.",
                )

    def _check_run(self, first: int) -> int:
        """Blocking: the last chunk of the run from `first` that may leave and is intact on disk; `first` - 1 if none is."""
        stop = min(chunks_covering(self._position, self._stop).stop, first + _SPAN_CHUNKS_MAX)
        last = first - 1
        for chunk in range(first, stop):
            if not self._may_leave(range(chunk, chunk + 1)) or not self._stored.check(chunk):
                break
            last = chunk
        return last

    def _may_leave(self, chunks: range) -> bool:
        if self._stored.sealed or self._stored.own.holds(chunks):
            return True
        vouching = self._download.vouching if self._download is not None else None
        return vouching is not None and all(chunk in self._stored.own or vouching.covers(chunk) for chunk in chunks)

    async def _wait(self, download: Download, until: float = inf) -> None:
        if download.failure is not None:
            raise download.failure
        await download.change(until if trio.current_time() < until else inf)

    def _named_sources(self, download: Download, *, here: bool) -> str:
        came_from = sorted(source for source, count in download.arrivals.received.items() if count)
        if here or not came_from:
            return "upstream" if self._streams else "store"
        complete_here = sum(download.arrivals.received.values()) >= download.blob.size
        return came_from[0] if len(came_from) == 1 and (complete_here or self._streams) else "mixed"

    def close(self) -> None:
        if self._download is not None:
            self._download.swarm.reads.end(id(self))
