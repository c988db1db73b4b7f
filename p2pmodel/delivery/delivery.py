"""The room's front desk: the `Delivery` port, put together from catalog, downloads, readers and seeding."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager

import trio

from p2pmodel.content import Access, Blob, BlobId, FileEntry, NodeId, Repo, Snapshot
from p2pmodel.delivery.catalog import Catalog
from p2pmodel.delivery.court import Court
from p2pmodel.delivery.disclosure import Disclosure
from p2pmodel.delivery.downloads import Downloads
from p2pmodel.delivery.fetching import Fetch, select
from p2pmodel.delivery.herald import Herald
from p2pmodel.delivery.intake import Intake
from p2pmodel.delivery.live import tell_download
from p2pmodel.delivery.pace import Urgency
from p2pmodel.delivery.piece_lists import PieceLists
from p2pmodel.delivery.ports import Location, Part, Progress, Selection, Surroundings, WarmStep
from p2pmodel.delivery.private import PrivateSharing
from p2pmodel.delivery.publications import Publications
from p2pmodel.delivery.reader import BlobReader
from p2pmodel.delivery.seeding import Seeding
from p2pmodel.delivery.shelf import Shelf
from p2pmodel.delivery.tasks import Tasks
from p2pmodel.delivery.uploads import Uploads
from p2pmodel.delivery.warming import Warming, Wish
from p2pmodel.delivery.xorbs import Xorbs
from p2pmodel.errors import UnavailableError
from p2pmodel.limits import CHUNK_BYTES, HUB_REST_MAX_S
from p2pmodel.swarm import Ban
from p2pmodel.wire.messages import HubBusy


class Delivery:
    def __init__(self, around: Surroundings, *, boot: bytes, access_allow_s: float, offline_grace_s: float) -> None:
        self._around = around
        self._fetches = Tasks()
        self._shelf = Shelf(around.store, around.blocking)
        self._sharing = sharing = PrivateSharing(around, self._shelf)
        self._herald = Herald(around.neighbours, self._private, sharing.admits)
        self._court = Court(around)
        self._court.on_ban = self._banned
        self.publications = Publications(around)
        self._disclosure = Disclosure(around)
        self._catalog = Catalog(
            around,
            self.publications,
            self._court,
            self._disclosure,
            access_allow_s=access_allow_s,
            offline_grace_s=offline_grace_s,
        )
        intake = Intake(around, self._disclosure)
        self._uploads = Uploads(around, self._catalog, intake)
        self._xorbs = Xorbs(around, intake)
        self._lists = PieceLists(around, self._shelf, lambda: self.downloads.client_waits)
        self.downloads = Downloads(around, self._herald, self._court, sharing, self._disclosure, intake.settled, self._lists)
        self._warming = Warming(around, self._catalog, self._prefetch)
        self.seeding = Seeding(
            around,
            self.downloads,
            self._herald,
            self._shelf,
            self._warming,
            sharing,
            self._court,
            self.publications,
            self._lists,
            boot,
        )

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Owns all downloads; cancel it to end them. What was held is kept."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._fetches.run)
            await nursery.start(self.downloads.run)
            await nursery.start(self._sharing.run)
            await nursery.start(self._warming.run)
            await nursery.start(self._uploads.run)
            await nursery.start(self._xorbs.run)
            await self._court.recall()
            nursery.start_soon(self._court.run)
            nursery.start_soon(self._herald.run)
            nursery.start_soon(self._lists.run)
            nursery.start_soon(self.seeding.run)
            task_status.started()
            await trio.sleep_forever()

    def _prefetch(
        self, repo: Repo, revision: str, selection: Selection
    ) -> AbstractAsyncContextManager[AsyncIterator[Progress]]:
        return self.fetch(repo, revision, selection, Access(), urgency=Urgency.PREFETCH)

    def _private(self, blob: BlobId) -> bool:
        state = self._around.store.find(blob)
        return state is not None and state.private

    async def snapshot(self, repo: Repo, revision: str, access: Access) -> Snapshot:
        return await self._catalog.snapshot(repo, revision, access)

    async def entry(self, repo: Repo, revision: str, path: str, access: Access) -> tuple[Snapshot, FileEntry]:
        snapshot, entry = await self._catalog.entry(repo, revision, path, access)
        await self._catalog.check_readable(snapshot, entry, access)  # a gated repo is listed for all and given to some
        return snapshot, entry

    async def info(self, repo: Repo, revision: str, access: Access) -> bytes:
        return await self._catalog.info(repo, revision, access)

    async def revisions(self, repo: Repo, access: Access) -> bytes:
        return await self._catalog.revisions(repo, access)

    def whereabouts(self, entry: FileEntry) -> str:
        state = self._around.store.find(entry.blob.id) if entry.blob else None
        if state is not None and state.sealed:
            return "store"
        return "peers" if entry.blob and self._around.neighbours.hold(entry.blob.id) else "upstream"

    @asynccontextmanager
    async def read(
        self, snapshot: Snapshot, entry: FileEntry, start: int, stop: int, access: Access
    ) -> AsyncIterator[BlobReader]:
        if entry.blob is None:
            raise UnavailableError(f"The hub gives no usable hash for {entry.path!r}.")
        await self._catalog.check_readable(snapshot, entry, access)
        private = not snapshot.public
        location = None if snapshot.repo.on_lan else Location(snapshot.repo, snapshot.commit, entry.path, access)
        async with self._shelf.borrow(entry.blob, private=private) as stored:
            await self._disclosure.fit(stored, entry.blob, location, private=private)
            if stored.sealed:
                self.downloads.statistics.came("store", stop - start)
                yield BlobReader(stored, None, start, stop, self._around.blocking, private=private)
                return
            async with self.downloads.wanted(entry.blob, location, private=private, urgency=Urgency.CLIENT) as download:
                reader = BlobReader(stored, download, start, stop, self._around.blocking, private=private)
                try:
                    yield reader
                finally:
                    reader.close()

    @asynccontextmanager
    async def fetch(
        self,
        repo: Repo,
        revision: str,
        selection: Selection,
        access: Access,
        *,
        offline: bool = False,
        urgency: Urgency = Urgency.FETCH,
    ) -> AsyncIterator[AsyncIterator[Progress]]:
        find = self._catalog.pinned if offline else self._catalog.snapshot
        snapshot = await find(repo, revision, access)
        files = select(snapshot, selection)
        await self._around.blocking(self._check_room, files)
        fetch = Fetch(self._around, self._catalog, self.downloads, snapshot, files, access, offline=offline, urgency=urgency)
        self._fetches.start(fetch.run)
        try:
            async with aclosing(fetch.progress()) as progress:
                yield progress
        finally:
            fetch.give_up()

    def _check_room(self, files: Sequence[FileEntry]) -> None:
        wanted = {entry.blob.id: entry.size for entry in files if entry.blob}
        missing = 0
        for blob, size in wanted.items():
            state = self._around.store.find(blob)
            missing += max(0, size - state.held * CHUNK_BYTES) if state else size
        if missing:
            self._around.store.check_room(missing, wanted)

    @asynccontextmanager
    async def warm(self, repo: Repo, revision: str, selection: Selection, nodes: str) -> AsyncIterator[AsyncIterator[WarmStep]]:
        wish = Wish(repo, revision, selection.include, selection.exclude)
        async with aclosing(self._warming.watch(wish, nodes)) as steps:
            yield steps

    def part(self, blob: Blob, start: int) -> AbstractAsyncContextManager[Part]:
        return self._uploads.part(blob, start)

    def xorb(self, session: str, name: str, size: int) -> AbstractAsyncContextManager[Part]:
        return self._xorbs.xorb(session, name, size)

    def shard(self, session: str) -> AbstractAsyncContextManager[Part]:
        return self._xorbs.shard(session)

    def changed(self, repo: Repo) -> None:
        self._catalog.forget_branches(repo)

    def committed(self, repo: Repo, commit: str, access: Access, files: Sequence[bytes]) -> None:
        self._uploads.committed(repo, commit, access, files)

    def hub_busy(self, host: str, seconds: float) -> None:
        """A hub asked for patience: its budget is the cluster's, so the peers are told."""
        message = HubBusy(upstream=host, retry_after=min(seconds, HUB_REST_MAX_S))
        for peer in self._around.neighbours.linked():
            self._around.neighbours.send(peer, message)

    def _banned(self, node: NodeId) -> None:
        self._herald.forget(node)
        self.downloads.banned(node)

    def bans(self) -> list[Ban]:
        """Who is banned now, and why."""
        return self._around.standing.bans(trio.current_time())

    def forgive(self, named: str) -> Sequence[NodeId]:
        """Lift the bans of the node whose id begins so, or of "all"; it is asked again at once. Raises ConfigError."""
        forgiven = self._court.forgive(named)
        for node in forgiven:
            if node in self._around.neighbours.linked():
                self.downloads.peer_linked(node)
        return forgiven

    def status(self) -> dict[str, object]:
        return {"downloads": [tell_download(download, self._around) for download in self.downloads.active]}
