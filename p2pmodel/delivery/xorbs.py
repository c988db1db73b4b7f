"""What clients upload by Xet through us, kept on its way.

hf_xet sends a file as chunks of some 64 KiB, packed, some thousand to a xorb; then a shard says which runs of which xorbs
make which file (huggingface.co/docs/xet/upload-protocol). Xorbs are kept as they came, in one nameless file for each of a
client's sessions, with a list of where their chunks lie. When the hub has taken a shard, its files are read out of them,
unpacked on the way, hashed and taken in as any upload is (`Intake`). Nobody's word counts: not the client's for the hashes,
nor the shard's for lengths; what is not right at the end was never there.

Chunks that the hub has are not sent again. Where they lie in a file that came this way before, they are taken from there
(`StoredXorbs`); a file of which any others are missing is left out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog
import trio

from p2pmodel.content import Blob, BlobId
from p2pmodel.content.xet import ShardReader, Term, XetFile, XorbReader, xet_bytes
from p2pmodel.delivery.assembling import ENTRY_COST, Assembled, PackedXorb, Run, Session, StoredXorbs
from p2pmodel.delivery.intake import Intake
from p2pmodel.delivery.ports import Spool, Surroundings
from p2pmodel.delivery.tasks import Tasks
from p2pmodel.errors import StoreError
from p2pmodel.limits import (
    UPLOAD_IDLE_S,
    XET_CHUNKS_KEPT_MAX,
    XET_EXPANSION_MAX,
    XET_RECALLED_MAX,
    XET_SESSIONS_MAX,
    XET_SPENT_S,
    XET_WRITE_BYTES,
    XET_XORB_BYTES_MAX,
)

log = structlog.get_logger()


class Xorbs:
    def __init__(self, around: Surroundings, intake: Intake) -> None:
        self._around = around
        self._intake = intake
        self._sessions: OrderedDict[str, _Session] = OrderedDict()  # last touched last
        self._stored = StoredXorbs(around.store)
        self._tasks = Tasks()
        self._turn = trio.Lock()  # one file at a time: unpacking and hashing is work

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Owns the work that goes on when a client has its answer."""
        try:
            await self._tasks.run(task_status, meanwhile=self._forget_now_and_then)
        finally:
            for session in self._sessions.values():
                session.give_up()

    async def _forget_now_and_then(self) -> None:
        while True:
            await trio.sleep(XET_SPENT_S / 4)
            self._forget_idle()

    @asynccontextmanager
    async def xorb(self, session: str, name: str, size: int) -> AsyncIterator[_XorbPart]:
        """See the `Delivery` port."""
        found = self._session(session) if size <= XET_XORB_BYTES_MAX else None
        if found is None:
            yield _XorbPart(None, self._around, b"", 0, -1)
            return
        found.users += 1
        found.spent = False
        try:
            part = _XorbPart(found, self._around, xet_bytes(name), size, await self._room(found, size))
            try:
                yield part
                await part.settle()
            finally:
                part.close()
        finally:
            self._left(found)

    @asynccontextmanager
    async def shard(self, session: str) -> AsyncIterator[_ShardPart]:
        """See the `Delivery` port."""
        part = _ShardPart()
        yield part
        if not part.right:
            return
        await self._recall(part.files)
        if self._tasks.open:
            self._tasks.start(self._take_in, self._assemble(part.files))
            if session in self._sessions:
                self._sessions[session].spent = True

    # Sessions

    def _session(self, name: str) -> _Session | None:
        session = self._sessions.get(name)
        if session is None:
            full = len(self._sessions) >= XET_SESSIONS_MAX or self._chunks >= XET_CHUNKS_KEPT_MAX
            if not self._tasks.open or (full and not self._forget_oldest()):
                return None
            session = self._sessions[name] = _Session()
        self._sessions.move_to_end(name)
        return session

    @property
    def _chunks(self) -> int:
        return sum(session.chunks for session in self._sessions.values())

    async def _room(self, session: _Session, size: int) -> int:
        """Where so many bytes may be written; -1 where there is no room."""
        async with session.growing:
            if session.chunks >= XET_CHUNKS_KEPT_MAX:
                return -1
            if (again := session.again(size)) is not None:
                return again
            try:
                return await self._around.blocking(session.grow, self._around, size)
            except StoreError as error:
                log.info("upload_not_kept", reason=str(error))
                return -1

    def _left(self, session: Session) -> None:
        session.users -= 1
        session.touched = trio.current_time()

    def _forget_oldest(self) -> bool:
        idle = next((name for name, session in self._sessions.items() if not session.users), None)
        if idle is not None:
            self._sessions.pop(idle).give_up()
        return idle is not None

    def _forget_idle(self) -> None:
        now = trio.current_time()
        for name, session in list(self._sessions.items()):
            if not session.users and now - session.touched > (XET_SPENT_S if session.spent else UPLOAD_IDLE_S):
                self._sessions.pop(name).give_up()

    # Files

    async def _recall(self, files: Sequence[XetFile]) -> None:
        """Where xorbs lie that nobody has sent since the daemon began."""
        named = dict.fromkeys(term.xorb for file in files for term in file.terms())
        sent = {name for session in self._sessions.values() for name in session.xorbs}
        unknown = [name for name in named if name not in sent and not self._stored.knows(name)][:XET_RECALLED_MAX]
        if unknown:
            try:
                self._stored.learn(await self._around.blocking(self._stored.recall, unknown))
            except StoreError as error:
                log.info("upload_not_kept", reason=str(error))

    def _assemble(self, files: Sequence[XetFile]) -> list[Assembled]:
        """Those of the files that are all here, and not yet in the store. Their sessions have them as users now."""
        room = XET_EXPANSION_MAX * (self._stored.bytes + sum(each.size for each in self._sessions.values()))
        found = []
        for file in files:
            try:
                blob = Blob(BlobId("sha256", file.sha256), file.size)
                runs = [self._run(term) for term in file.terms()]
            except ValueError as error:
                log.info("upload_not_kept", blob=file.sha256, reason=str(error))
                continue
            room -= blob.size
            state = self._around.store.find(blob.id)
            if (state is None or not state.sealed) and room >= 0 and self._intake.expect(blob.id):
                found.append(Assembled(blob, runs))
        for session in (session for file in found for session in file.sessions):
            session.users += 1
        return found

    def _run(self, term: Term) -> Run:
        """Raises ValueError."""
        for session in reversed(self._sessions.values()):
            if (xorb := session.xorbs.get(term.xorb)) is not None:
                return Run.of(term, xorb)
        stored = self._stored.find(term.xorb, term.first, term.stop)
        if stored is None:
            raise ValueError("the hub had parts of it before")
        return Run.of(term, stored)

    async def _take_in(self, files: Sequence[Assembled]) -> None:
        for file in files:
            try:
                async with self._turn:
                    await self._intake.take_in(file.blob, file)
                state = self._around.store.find(file.blob.id)
                if state is not None and state.sealed:
                    await self._around.blocking(self._stored.keep, self._stored.add(file))
            except StoreError as error:
                log.info("upload_not_remembered", reason=str(error))
            finally:
                for session in file.sessions:
                    self._left(session)


class _Session:
    """A client's upload: its xorbs, one after the other in a nameless file."""

    def __init__(self) -> None:
        self.xorbs: dict[bytes, PackedXorb] = {}
        self.spool: Spool | None = None
        self.growing = trio.Lock()
        self.size = 0  # of the file
        self.chunks = 0
        self.users = 0
        self.touched = trio.current_time()
        self.spent = False  # a shard has named what is here
        self._free: list[tuple[int, int]] = []  # start and size of what the hub did not take: it will come again

    def again(self, size: int) -> int | None:
        """A place that was given back."""
        place = next((place for place in self._free if place[1] == size), None)
        if place is None:
            return None
        self._free.remove(place)
        return place[0]

    def grow(self, around: Surroundings, size: int) -> int:
        """Blocking: a new place. Raises StoreError."""
        if self.spool is None:
            self.spool = around.store.spool(size)
        else:
            self.spool.grow(size)
        self.size += size
        return self.size - size

    def give_back(self, start: int, size: int) -> None:
        self._free.append((start, size))

    def put(self, name: bytes, xorb: PackedXorb) -> None:
        if name not in self.xorbs:
            self.chunks += len(xorb.offsets) + ENTRY_COST
        self.xorbs[name] = xorb

    def give_up(self) -> None:
        """Without users, or at the end of all."""
        self.xorbs.clear()
        if self.spool is not None and not self.users:
            self.spool.close()
            self.spool = None


class _XorbPart:
    """See the `Part` port."""

    def __init__(self, session: _Session | None, around: Surroundings, name: bytes, size: int, start: int) -> None:
        self._session = session if start >= 0 else None
        self._around = around
        self._name = name
        self._size = size
        self._start = start
        self._reader = XorbReader()
        self._written = 0
        self._unwritten = bytearray()
        self._accepted = False
        self._dead = False

    async def put(self, data: bytes) -> None:
        if self._session is None or self._dead:
            return
        try:
            if self._written + len(self._unwritten) + len(data) > self._size:
                raise ValueError("more bytes than its head said")  # noqa: TRY301  # as what it is read for
            self._reader.feed(data)
        except ValueError as error:
            self._lost(str(error))
            return
        self._unwritten += data
        if len(self._unwritten) >= XET_WRITE_BYTES:
            await self._write()

    def accept(self) -> None:
        self._accepted = True

    async def settle(self) -> None:
        """All that came is written; if that was all, and the hub has taken it, it is kept."""
        await self._write()
        whole = self._written == self._size and self._reader.whole
        if self._session is not None and self._accepted and whole and not self._dead:
            self._session.put(self._name, PackedXorb(self._session, self._start, self._reader))
            self._session = None

    def close(self) -> None:
        """What has not been kept leaves its place."""
        if self._session is not None:
            self._session.give_back(self._start, self._size)
            self._session = None

    async def _write(self) -> None:
        data, self._unwritten = bytes(self._unwritten), bytearray()
        if self._session is None or self._session.spool is None or self._dead or not data:
            return
        try:
            await self._around.blocking(self._session.spool.write, data, self._start + self._written)
        except StoreError as error:
            self._lost(str(error))
        self._written += len(data)

    def _lost(self, reason: str) -> None:
        log.info("upload_not_kept", reason=reason)
        self._dead = True
        self._unwritten.clear()


class _ShardPart:
    """See the `Part` port."""

    def __init__(self) -> None:
        self._reader = ShardReader()
        self._accepted = False
        self._dead = False

    async def put(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if self._dead:
            return
        try:
            self._reader.feed(data)
        except ValueError as error:
            log.info("upload_not_kept", reason=str(error))
            self._dead = True

    def accept(self) -> None:
        self._accepted = True

    @property
    def right(self) -> bool:
        return self._accepted and self._reader.whole and not self._dead

    @property
    def files(self) -> Sequence[XetFile]:
        return self._reader.files
