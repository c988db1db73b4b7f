"""A proof of what peers give of a blob on its way in: the hub names the root of the file's pieces (Xet), a peer that has sealed
it lists them, and each chunk whose pieces are as listed may leave at once, whoever gave it (grade A).

What must be known to change this file:
- Nobody is believed: a list counts if its root is the one that the hub named to us. Then it proves bytes as our own read does.
- A chunk's first and last piece reach into the chunks beside it, so it is looked at once these are here as well.
- Of a chunk that is not as listed nobody is convicted here: if our own disk is not to blame, our own read of the hub settles
  what it is (trial.py).
- It is looked for only when a client waits for a large file: everything else can wait for the file's own hash.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
import trio

from p2pmodel.content import NodeId, PieceList, chunk_size, chunk_start, chunks_covering
from p2pmodel.delivery.piece_lists import PIECES, cut_by_xet
from p2pmodel.delivery.ports import Location, StoredBlob, Surroundings
from p2pmodel.delivery.recorder import PROVEN, FlightRecord
from p2pmodel.delivery.trial import Trial
from p2pmodel.errors import SourceError, StoreError
from p2pmodel.limits import LARGE_BLOB_BYTES, PIECE_LIST_S, PIECE_LISTS_ASKED_MAX, PIECES_MAX, PROOF_S
from p2pmodel.swarm import Swarm, line_for
from p2pmodel.wire.messages import AskPieces, PiecesPage

_PIECES_AT_ONCE: Final = 16  # read and hashed: at most 2 MiB

log = structlog.get_logger()

Seen = tuple[bytes | None, ...]  # the digests of a chunk and of those that its pieces reach into


class Proving:
    """Of one download. `change` waits for a change of facts, `changed` is called when there is one."""

    def __init__(
        self,
        stored: StoredBlob,
        swarm: Swarm,
        trial: Trial,
        around: Surroundings,
        locations: list[Location],
        *,
        client_waits: Callable[[], bool],
        change: Callable[[], Awaitable[None]],
        changed: Callable[[], None],
    ) -> None:
        self.on = stored.blob.size > LARGE_BLOB_BYTES
        self.pieces: PieceList | None = None  # as the hub's root proves
        self._stored = stored
        self._swarm = swarm
        self._trial = trial
        self._around = around
        self._locations = locations
        self._client_waits = client_waits
        self._change = change
        self._changed = changed
        self._untried: dict[NodeId, None] = {}  # peers that hold the blob sealed
        self._asking = False
        self._asked = 0
        self._late = False  # whoever waits need not wait for this any more
        self._no_root = False
        self._root: bytes | None = None  # the hub's
        self._false: dict[int, tuple[Seen, int]] = {}  # chunks not as listed: what was seen, and a wrong piece

    # The list

    def met(self, peer: NodeId) -> None:
        """It holds the blob sealed."""
        if self.on and self._around.neighbours.able(peer, PIECES):
            self._untried[peer] = None

    def gone(self, peer: NodeId) -> None:
        self._untried.pop(peer, None)

    @property
    def settled(self) -> bool:
        """Whether it is known if there will be a proof, or that has taken too long."""
        return self._late or not (self._asking or self._worth_asking)

    @property
    def _worth_asking(self) -> bool:
        wanted = self.pieces is None and not self._no_root and self._asked < PIECE_LISTS_ASKED_MAX and self._client_waits()
        return wanted and bool(self._untried) and cut_by_xet(self._locations)

    async def run(self) -> None:
        while not self._worth_asking:
            await self._change()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._lose_patience)
            while True:
                if self.pieces is not None:
                    await self._look(self.pieces)
                elif self._worth_asking:
                    await self._try_next()
                    continue
                await self._change()

    async def _lose_patience(self) -> None:
        await trio.sleep(PROOF_S)
        self._late = True
        self._changed()

    async def _try_next(self) -> None:
        """The first in line: it is likely to have listed them, and whoever is asked in vain will cut the file."""
        weight = self._around.neighbours.weight
        line = line_for(self._stored.blob.id, set(map(weight, self._untried)))
        peer = min(self._untried, key=lambda peer: line.index(weight(peer)))
        del self._untried[peer]
        self._asking = True
        self._asked += 1
        try:
            await self._try(peer)
        finally:
            self._asking = False
            self._changed()

    async def _try(self, peer: NodeId) -> None:
        try:
            with trio.fail_after(PIECE_LIST_S):
                pieces = await self._list_of(peer)
        except (SourceError, ValueError, trio.TooSlowError) as error:
            log.info("no_pieces", peer=peer, why=str(error))
            return
        root = await self._around.blocking(pieces.root)
        if self._root is None:
            self._root = await self._around.upstreams.xet_root(self._locations, self._stored.blob)
            self._no_root = self._root is None
        if root == self._root:
            self.pieces = pieces
            log.info("blob_provable", blob=self._name, pieces=len(pieces), listed_by=peer)
            self._around.recorder.record(self._record(peer, pieces))
        elif self._root is not None:  # no strike: it may be we that cut otherwise than the hub, and its honest list is as ours
            log.warning("pieces_refused", blob=self._name, peer=peer)

    def _record(self, peer: NodeId, pieces: PieceList) -> FlightRecord:
        return FlightRecord(
            blob=str(self._stored.blob.id),
            first=0,
            count=len(pieces),
            came=0,
            source=peer,
            place=self._around.neighbours.address(peer),
            bytes=0,
            seconds=0.0,
            outcome=PROVEN,
            private=self._stored.private,
        )

    async def _list_of(self, peer: NodeId) -> PieceList:
        """Raises SourceError, ValueError."""
        entries, size, first = bytearray(), 0, 0
        while size < self._stored.blob.size and first < PIECES_MAX:
            question = AskPieces(request=0, blob=self._stored.blob.id.to_bytes(), first=first)
            (page,) = await self._around.neighbours.ask(peer, question)
            if not isinstance(page, PiecesPage):
                raise ValueError("no pieces in the answer")  # noqa: TRY004  # a peer's value
            some = PieceList.read(page.pieces)
            entries += some.entries
            size, first = size + some.size, first + len(some)
        if size != self._stored.blob.size:
            raise ValueError(f"pieces of {size} bytes")
        return await self._around.blocking(PieceList.read, bytes(entries))

    # The proof

    def needed(self, chunks: range) -> range:
        """These chunks, and those beside them into which their pieces reach."""
        pieces = self.pieces
        if pieces is None or not chunks:
            return chunks
        last = chunks.stop - 1
        touching = pieces.overlapping(chunk_start(chunks.start), chunk_start(last) + chunk_size(self._stored.blob.size, last))
        return chunks_covering(pieces.starts[touching.start], pieces.starts[touching.stop])

    async def _look(self, pieces: PieceList) -> None:
        """At all that clients want next and that can be looked at now."""
        while (chunk := self._next()) is not None:
            seen = self._seen(chunk)
            wrong = await self._around.blocking(self._first_wrong, pieces, chunk)
            if seen != self._seen(chunk):
                continue  # it was replaced meanwhile
            digest = self._stored.digest(chunk) or b""
            if wrong is not None:
                if await self._intact(self._sharing(pieces, wrong)):
                    log.warning("chunk_not_as_listed", blob=self._name, chunk=chunk)
                    self._false[chunk] = seen, wrong
            elif await self._around.blocking(self._stored.prove, chunk, digest):
                self._trial.proven(chunk, digest)
            self._changed()
        self._dispute(pieces)

    def _next(self) -> int | None:
        if self._stored.sealed:
            return None
        held, own = self._stored.held, self._stored.own
        for wanted in self._swarm.reads.ranges:
            for chunk in (wanted & held) - own:
                known_false = chunk in self._false and self._false[chunk][0] == self._seen(chunk)
                if not known_false and held.holds(self.needed(range(chunk, chunk + 1))):
                    return chunk
        return None

    def _seen(self, chunk: int) -> Seen:
        return tuple(map(self._stored.digest, self.needed(range(chunk, chunk + 1))))

    def _first_wrong(self, pieces: PieceList, chunk: int) -> int | None:
        """Blocking: the first piece of a chunk that is not as listed. Raises StoreError."""
        start = chunk_start(chunk)
        touching = pieces.overlapping(start, start + chunk_size(self._stored.blob.size, chunk))
        for first in touching[::_PIECES_AT_ONCE]:
            stop = min(first + _PIECES_AT_ONCE, touching.stop)
            wrong = pieces.check(first, self._read(pieces.starts[first], pieces.starts[stop]))
            if wrong is not None:
                return wrong
        return None

    def _read(self, start: int, stop: int) -> bytes:
        try:
            data = os.pread(self._stored.fileno(), stop - start, start)
        except OSError as error:
            raise StoreError(f"A chunk of {self._stored.blob.id} cannot be read: {error.strerror}.") from error
        return data.ljust(stop - start, b"\0")  # a file that was cut short is not as listed

    async def _intact(self, chunks: range) -> bool:
        """Whether it is not our own disk that is wrong: what is damaged is fetched again, and nobody is blamed."""
        damaged = [chunk for chunk in chunks if not await self._around.blocking(self._stored.confirm, chunk)]
        if damaged:
            self._trial.changed()
        return not damaged

    def _sharing(self, pieces: PieceList, piece: int) -> range:
        """The chunks that have some of it."""
        return chunks_covering(pieces.starts[piece], pieces.starts[piece + 1])

    def _dispute(self, pieces: PieceList) -> None:
        """What is not as listed, until it is replaced. Of two chunks that share a piece one is enough: which of them was false
        is known when it has been read."""
        own, disputed = self._stored.own, len(self._swarm.reads.disputed)
        for chunk, (seen, wrong) in list(self._false.items()):
            if chunk in own or seen != self._seen(chunk):
                del self._false[chunk]
                continue
            self._trial.dispute(max(each for each in self._sharing(pieces, wrong) if each not in own))
        if len(self._swarm.reads.disputed) > disputed:
            self._trial.changed()

    @property
    def _name(self) -> str:
        return "private" if self._stored.private else str(self._stored.blob.id)
