"""Which blobs are on their way in: starts a download when somebody wants it, shares it, gives it up when nobody does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from p2pmodel.content import Blob, BlobId, NodeId
from p2pmodel.delivery.arrival import ArrivalStatistics
from p2pmodel.delivery.court import Court
from p2pmodel.delivery.disclosure import Disclosure
from p2pmodel.delivery.download import Download
from p2pmodel.delivery.herald import Herald
from p2pmodel.delivery.pace import Urgency
from p2pmodel.delivery.piece_lists import PieceLists
from p2pmodel.delivery.ports import Location, StoredBlob, Surroundings
from p2pmodel.delivery.private import PrivateSharing
from p2pmodel.delivery.tasks import Tasks
from p2pmodel.errors import UnavailableError
from p2pmodel.wire.messages import Message


class Downloads:
    """`settled` returns when no upload of a blob is being taken in any more: before that nobody is asked for it."""

    def __init__(
        self,
        around: Surroundings,
        herald: Herald,
        court: Court,
        sharing: PrivateSharing,
        disclosure: Disclosure,
        settled: Callable[[BlobId], Awaitable[None]],
        lists: PieceLists,
    ) -> None:
        self.statistics = ArrivalStatistics({}, {})
        self._around = around
        self._herald = herald
        self._court = court
        self._sharing = sharing
        self._disclosure = disclosure
        disclosure.on_withdrawn = self._withdrawn
        self._settled = settled
        self._lists = lists
        self._active: dict[BlobId, Download] = {}
        self._tasks = Tasks()
        self.run = self._tasks.run

    @property
    def active(self) -> list[Download]:
        return list(self._active.values())

    def find(self, blob: BlobId) -> Download | None:
        return self._active.get(blob)

    @asynccontextmanager
    async def wanted(
        self, blob: Blob, location: Location | None, *, private: bool, urgency: Urgency
    ) -> AsyncIterator[Download]:
        """The download of a blob, running as long as somebody is inside; a sealed blob's is over from the start. Without a
        location no hub is asked on this caller's behalf."""
        await self._settled(blob.id)
        download = self._active.get(blob.id)
        if download is None or download.over or not self._disclosure.fits(download.stored, private=private):
            download = await self._begin(blob, location, private=private)
        if location is not None:
            download.add_location(location)
        download.users[urgency] += 1
        download.wake()
        try:
            yield download
        finally:
            download.users[urgency] -= 1
            # A complete one ends by itself, sealed for others.
            if not download.users.total() and not download.stored.held.complete:
                self._forget(download)
                download.scope.cancel()

    async def _begin(self, blob: Blob, location: Location | None, *, private: bool) -> Download:
        """Joins one that somebody else has begun meanwhile."""
        stored = await self._around.blocking(lambda: self._around.store.open(blob, private=private))
        try:
            await self._disclosure.fit(stored, blob, location, private=private)
            self._tasks.check()
        except BaseException:
            await self._close(stored)
            raise
        running = self._active.get(stored.blob.id)
        if running is not None and not running.over:  # of the same file, which fits
            self._tasks.start(self._close, stored)
            return running
        locations = [] if location is None else [location]
        download = Download(stored, self._around, self._herald, self._court, locations, self.statistics, self._sharing)
        self._active[download.blob.id] = download  # the store may know the blob by its other name
        self._tasks.start(self._run, download, stored)
        return download

    async def _run(self, download: Download, stored: StoredBlob) -> None:
        try:
            await download.run()
            if stored.sealed:
                took_part = download.swarm.availability.peers
                await self._lists.sealed(stored.blob, download.proving.pieces, download.locations, took_part)
        finally:
            self._forget(download)
            self._send_interest(download, on=False)
            await self._close(stored)

    async def _close(self, stored: StoredBlob) -> None:
        with trio.CancelScope(shield=True):  # chunks may have to be recorded: a disk's time, no more
            await self._around.blocking(stored.close)

    def _withdrawn(self, blob: BlobId) -> None:
        """Who followed it as everybody's asks again, and finds out whether it is."""
        if (download := self._active.get(blob)) is not None:
            download.fail(UnavailableError(f"{blob} is being fetched for another user.", next_step="Ask again."))

    def _forget(self, download: Download) -> None:
        """No one else may join it: it is ending."""
        if self._active.get(download.blob.id) is download:
            del self._active[download.blob.id]

    def _send_interest(self, download: Download, *, on: bool) -> None:
        for peer in self._around.neighbours.linked():
            if download.may_join(peer):
                self._around.neighbours.send(peer, download.interest(on=on))

    @property
    def client_waits(self) -> bool:
        """For bytes that are not all here yet."""
        return any(download.users[Urgency.CLIENT] for download in self.active)

    # What peers say

    def peer_linked(self, peer: NodeId) -> None:
        for download in self.active:
            download.peer_linked(peer)

    def peer_unlinked(self, peer: NodeId) -> None:
        for download in self.active:
            download.peer_unlinked(peer)

    def banned(self, node: NodeId) -> None:
        for download in self.active:
            download.banned(node)

    def told(self, peer: NodeId, blob: BlobId, message: Message) -> None:
        """Raises ValueError or IndexError for what cannot be true."""
        download = self._active.get(blob)
        if download is not None and download.may_join(peer):
            if download.stored.private:  # the peer was let in by answering it, and comes in with its first word
                download.peer_linked(peer)
            download.told(peer, message)
