"""What clients upload to a hub through us, kept on its way, so that the cluster has it before the hub is asked for it.

Both hubs' dialects end here: the gateway hands over the bytes that it passes on (`Part`), under the name that the client
gave them. They lie in a nameless file and not in the store: a name is a claim, and a local user's lie about a file that
others are fetching must not reach it. When the hub has taken all of a file, it is taken in (`Intake`; parts come in any
order, and some come twice). It is private, and becomes public when the hub shows the commit to a stranger, and not before.
What comes by Xet is kept elsewhere (`xorbs.py`), and becomes public here as well.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import structlog
import trio

from p2pmodel.content import Access, Blob, BlobHasher, BlobId, Hub, Repo, Snapshot
from p2pmodel.content.digest import Algorithm
from p2pmodel.delivery.catalog import Catalog
from p2pmodel.delivery.intake import Intake
from p2pmodel.delivery.ports import Spool, Surroundings
from p2pmodel.delivery.tasks import Tasks
from p2pmodel.errors import P2pmodelError, StoreError
from p2pmodel.limits import UPLOAD_IDLE_S, UPLOAD_PARTS_MAX, UPLOAD_WRITE_BYTES, UPLOADS_MAX

log = structlog.get_logger()

#: By what a hub's listing names small files.
_SMALL_FILES_NAME: Final[Mapping[Hub, Algorithm]] = {Hub.HUGGINGFACE: "git-sha1", Hub.MODELSCOPE: "sha256"}


class Uploads:
    def __init__(self, around: Surroundings, catalog: Catalog, intake: Intake) -> None:
        self._around = around
        self._catalog = catalog
        self._intake = intake
        self._open: OrderedDict[BlobId, _Upload] = OrderedDict()  # last touched last
        self._tasks = Tasks()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Owns the work that goes on when a client has its answer."""
        try:
            await self._tasks.run(task_status, meanwhile=self._forget_now_and_then)
        finally:
            for upload in self._open.values():
                upload.give_up()

    async def _forget_now_and_then(self) -> None:
        while True:
            await trio.sleep(UPLOAD_IDLE_S / 10)
            self._forget_idle()

    @asynccontextmanager
    async def part(self, blob: Blob, start: int) -> AsyncIterator[_Part]:
        """See the `Delivery` port."""
        upload = await self._find(blob)
        part = _Part(upload, self._around, start)
        if upload is None:
            yield part
            return
        try:
            yield part
            await part.settle()
        finally:
            upload.users -= 1
            upload.touched = trio.current_time()
            if upload.dead:
                self._forget(upload)
            elif upload.complete and not upload.users and self._tasks.open:
                if self._intake.expect(blob.id):
                    upload.users += 1
                    upload.hashing = True
                    self._tasks.start(self._take_in, upload)
                else:  # it came by Xet as well
                    self._forget(upload)

    def committed(self, repo: Repo, commit: str, access: Access, files: Sequence[bytes]) -> None:
        """See the `Delivery` port."""
        if self._tasks.open:
            self._tasks.start(self._settle, repo, commit, access, files)

    async def _find(self, blob: Blob) -> _Upload | None:
        """Where its bytes go, with one more user; None if they are here, or cannot be kept."""
        state = self._around.store.find(blob.id)
        if state is not None and state.sealed:
            return None
        upload = self._open.get(blob.id)
        if upload is None:
            if not self._tasks.open or (len(self._open) >= UPLOADS_MAX and not self._forget_oldest()):
                return None
            upload = _Upload(blob)
            self._open[blob.id] = upload
            try:
                upload.spool = await self._around.blocking(self._around.store.spool, blob.size)
            except StoreError as error:
                log.info("upload_not_kept", blob=str(blob.id), reason=str(error))
                self._forget(upload)
            finally:
                upload.ready.set()
        await upload.ready.wait()
        if upload.dead or upload.hashing:
            return None
        upload.users += 1
        self._open.move_to_end(blob.id)
        return upload

    # Taking in

    async def _take_in(self, upload: _Upload) -> None:
        assert upload.spool is not None
        try:
            await self._intake.take_in(upload.blob, upload.spool)
        finally:
            upload.users -= 1
            self._forget(upload)

    # After the commit

    async def _settle(self, repo: Repo, commit: str, access: Access, files: Sequence[bytes]) -> None:
        for data in files:
            hasher = BlobHasher(_SMALL_FILES_NAME[repo.hub], len(data))
            hasher.update(data)
            async with self.part(Blob(hasher.id(), len(data)), 0) as part:
                await part.put(data)
                part.accept()
        try:
            snapshot = await self._catalog.snapshot(repo, commit, access)
            await self._publish(snapshot)
        except P2pmodelError as error:
            log.info("commit_not_settled", commit=commit, reason=str(error))

    async def _publish(self, snapshot: Snapshot) -> None:
        """Whatever of a public snapshot is private here became so by an upload, or by an earlier look with a token."""
        store = self._around.store
        for entry in snapshot.files if snapshot.public else ():
            if entry.blob is None:
                continue
            if (upload := self._open.get(entry.blob.id)) is not None and upload.complete:
                await upload.over.wait()
            await self._intake.settled(entry.blob.id)
            state = store.find(entry.blob.id)
            if state is not None and state.private and state.sealed:
                await self._catalog.check_readable(snapshot, entry, Access())

    # Forgetting

    def _forget(self, upload: _Upload) -> None:
        if self._open.get(upload.blob.id) is upload:
            del self._open[upload.blob.id]
        upload.give_up()

    def _forget_oldest(self) -> bool:
        idle = next((upload for upload in self._open.values() if not upload.users), None)
        if idle is not None:
            self._forget(idle)
        return idle is not None

    def _forget_idle(self) -> None:
        before = trio.current_time() - UPLOAD_IDLE_S
        for upload in [upload for upload in self._open.values() if not upload.users and upload.touched < before]:
            self._forget(upload)


class _Upload:
    """One file on its way through us."""

    def __init__(self, blob: Blob) -> None:
        self.blob = blob
        self.spool: Spool | None = None
        self.ready = trio.Event()  # the spool is there, or will not be
        self.over = trio.Event()
        self.users = 0
        self.touched = trio.current_time()
        self.hashing = False
        self.dead = False
        self._taken: list[tuple[int, int]] = []  # what the hub has taken: runs of bytes, in order, none touching the next

    @property
    def complete(self) -> bool:
        return not self.dead and self._taken == [(0, self.blob.size)]

    def take(self, start: int, stop: int) -> None:
        runs = sorted([*self._taken, (start, stop)])
        joined = runs[:1]
        for first, last in runs[1:]:
            if first <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(joined[-1][1], last))
            else:
                joined.append((first, last))
        self._taken = joined
        self.dead = self.dead or len(joined) > UPLOAD_PARTS_MAX

    def give_up(self) -> None:
        """The file goes with its last user: a thread may be writing to it."""
        self.dead = True
        self.over.set()
        if self.spool is not None and not self.users:
            self.spool.close()
            self.spool = None


class _Part:
    """See the `Part` port."""

    def __init__(self, upload: _Upload | None, around: Surroundings, start: int) -> None:
        self._upload = upload
        self._around = around
        self._start = self._at = start
        self._unwritten = bytearray()  # a client's pieces are small, and each trip to a thread costs
        self._accepted = False

    async def put(self, data: bytes) -> None:
        upload = self._upload
        if upload is None or upload.dead:
            return
        if self._at + len(self._unwritten) + len(data) > upload.blob.size:
            upload.dead = True  # not the file that was named
            return
        self._unwritten += data
        if len(self._unwritten) >= UPLOAD_WRITE_BYTES:
            await self._write(upload)

    def accept(self) -> None:
        self._accepted = True

    async def settle(self) -> None:
        """All that came is written; what was accepted counts."""
        if self._upload is not None:
            await self._write(self._upload)
            if self._accepted:
                self._upload.take(self._start, self._at)

    async def _write(self, upload: _Upload) -> None:
        data, self._unwritten = bytes(self._unwritten), bytearray()
        if upload.dead or upload.spool is None or not data:
            return
        try:
            await self._around.blocking(upload.spool.write, data, self._at)
        except StoreError as error:
            log.info("upload_not_kept", blob=str(upload.blob.id), reason=str(error))
            upload.dead = True
        self._at += len(data)
