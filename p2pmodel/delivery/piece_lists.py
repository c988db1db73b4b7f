"""How the files that are sealed here are cut (content/pieces.py): told to whoever asks, and found out in the background, one
file at a time, half of the time.

A list is made where it will be of use: after a seal by one of those who brought the file in together, and by whoever is asked
for one that is not here. It needs nobody's trust: who gets it holds its root against the hub's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import structlog
import trio

from p2pmodel.content import Blob, BlobId, Hub, NodeId, PieceList, chunk_count, chunk_size
from p2pmodel.content.cutting import Cutter
from p2pmodel.delivery.ports import BlobState, Location, StoredBlob, Surroundings
from p2pmodel.delivery.shelf import Shelf
from p2pmodel.errors import StoreError
from p2pmodel.limits import LARGE_BLOB_BYTES, PIECE_LISTS_DUE_MAX, PIECES_MAX, PIECES_PER_PAGE_MAX, XET_CHUNK_BYTES_MAX
from p2pmodel.swarm import line_for

PIECES: Final = "pieces"  # the ability
_LOOK_S: Final = 1.0  # between two looks at whether a client still waits

log = structlog.get_logger()


class PieceLists:
    """`busy`: whether a client waits for bytes that are on their way in."""

    def __init__(self, around: Surroundings, shelf: Shelf, busy: Callable[[], bool]) -> None:
        self._around = around
        self._shelf = shelf
        self._busy = busy
        self._vain: dict[BlobId, None] = {}  # files that were cut and have no list that is of use
        self._due: dict[BlobId, Sequence[Location]] = {}  # where the hub can be asked for the root, if that is known
        self._news = trio.Event()

    async def page(self, state: BlobState, first: int) -> bytes:
        """Of the list of a sealed blob; b"" if there is none, but then there will be. Raises StoreError."""
        entries = await self._around.blocking(self._around.store.pieces, state.blob.id, first, PIECES_PER_PAGE_MAX)
        if not entries and first == 0:
            self._want(state.blob, ())
        return entries

    async def sealed(
        self, blob: Blob, pieces: PieceList | None, locations: Sequence[Location], took_part: Iterable[NodeId]
    ) -> None:
        """A blob was brought in; `pieces` is the list by which it was proven, if it was."""
        if pieces is not None:
            await self._keep(blob.id, pieces)
        elif cut_by_xet(locations) and self._is_first(blob, took_part):
            self._want(blob, locations)

    def _is_first(self, blob: Blob, others: Iterable[NodeId]) -> bool:
        neighbours = self._around.neighbours
        weights = {neighbours.weight(peer) for peer in others if neighbours.able(peer, PIECES)}
        return line_for(blob.id, {neighbours.own_weight(), *weights})[0] == neighbours.own_weight()

    def _want(self, blob: Blob, locations: Sequence[Location]) -> None:
        listable = LARGE_BLOB_BYTES < blob.size <= PIECES_MAX * XET_CHUNK_BYTES_MAX and blob.id not in self._vain
        if listable and len(self._due) < PIECE_LISTS_DUE_MAX:
            self._due.setdefault(blob.id, locations)
            self._news.set()

    # Making them

    async def run(self) -> None:
        while True:
            await self._news.wait()
            self._news = trio.Event()
            while self._due:
                blob, locations = next(iter(self._due.items()))
                try:
                    await self._make(blob, locations)
                except StoreError as error:
                    log.warning("pieces_not_listed", blob=str(blob), reason=str(error))
                finally:
                    del self._due[blob]

    async def _make(self, blob: BlobId, locations: Sequence[Location]) -> None:
        state = self._around.store.find(blob)
        known = await self._around.blocking(self._around.store.pieces, blob, 0, 1)
        if known or state is None or not state.sealed:
            return
        root = await self._around.upstreams.xet_root(locations, state.blob) if locations else None
        if locations and root is None:
            return  # the hub does not keep it by Xet
        try:
            pieces = await self._cut(state, root)
        except ValueError as error:
            log.warning("pieces_of_no_use", blob=str(blob), reason=str(error))
            self._give_up(blob)
        else:
            if pieces is not None:
                await self._keep(blob, pieces)

    def _give_up(self, blob: BlobId) -> None:
        """Whoever asks for it shall not have it cut again and again."""
        self._vain[blob] = None
        if len(self._vain) > PIECE_LISTS_DUE_MAX:
            del self._vain[next(iter(self._vain))]

    async def _cut(self, state: BlobState, root: bytes | None) -> PieceList | None:
        """None if it is found damaged meanwhile. Raises ValueError for a list that would be of no use."""
        cutter, worked_s = Cutter(), 0.0
        async with self._shelf.borrow(state.blob, private=state.private) as stored:
            for chunk in range(chunk_count(state.blob.size)):
                await self._make_way(worked_s)
                began = trio.current_time()
                async with self._around.buffers.take() as buffer:
                    if not await self._around.blocking(_feed, cutter, stored, chunk, buffer):
                        return None
                worked_s = trio.current_time() - began
        pieces = await self._around.blocking(cutter.finish)
        if root is not None and await self._around.blocking(pieces.root) != root:
            raise ValueError("the hub names another root")  # it cuts otherwise than we do by now
        return pieces

    async def _make_way(self, worked_s: float) -> None:
        """Rest for as long as was worked, and while a client waits. A thread behind all others will not do: whoever cuts has
        Python's lock in between, and would keep it for as long as a busy machine keeps such a thread waiting."""
        await trio.sleep(worked_s)
        while self._busy():  # noqa: ASYNC110  # nobody need be woken for this
            await trio.sleep(_LOOK_S)

    async def _keep(self, blob: BlobId, pieces: PieceList) -> None:
        try:
            await self._around.blocking(self._around.store.keep_pieces, blob, pieces.entries)
        except StoreError as error:
            log.warning("pieces_not_kept", blob=str(blob), reason=str(error))
        else:
            log.info("pieces_listed", blob=str(blob), pieces=len(pieces))


def cut_by_xet(locations: Iterable[Location]) -> bool:
    """Whether there may be a root: one hub keeps its files so."""
    return any(location.repo.hub is Hub.HUGGINGFACE for location in locations)


def _feed(cutter: Cutter, stored: StoredBlob, chunk: int, buffer: memoryview) -> bool:
    data = buffer[: chunk_size(stored.blob.size, chunk)]
    if not stored.sealed or not stored.check(chunk):
        return False
    stored.read_into(chunk, data)
    cutter.feed(data)
    return True
