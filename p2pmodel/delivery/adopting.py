"""Taking what hub clients left on this machine into the store: hash, seal, ask the hub whose it is, announce.

One folder at a time, behind everything else. A file is sealed as private when its hash has been computed; it becomes public
when the hub lists it to somebody without a token, as any other blob does. What the hub cannot be asked about now stays
private until somebody asks for it with the hub in reach.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pmodel.content import Access, Blob, BlobId, FileEntry, Manifest, Repo, Seal, Snapshot
from p2pmodel.delivery.blocking import Blocking
from p2pmodel.delivery.ports import Delivery, Store
from p2pmodel.delivery.publications import Publications
from p2pmodel.delivery.tasks import Tasks
from p2pmodel.errors import ConfigError, P2pmodelError, StoreError, UnavailableError
from p2pmodel.limits import ADOPT_FAILURES_TOLD_MAX

log = structlog.get_logger()
_REPORT_S = 0.5


class File(Protocol):
    """A file of a cache, and the hash that its name claims."""

    @property
    def path(self) -> Path: ...

    @property
    def size(self) -> int: ...

    @property
    def name(self) -> BlobId | None: ...


class Found(Protocol):
    """A repo in a cache."""

    @property
    def repo(self) -> Repo: ...

    @property
    def revisions(self) -> Sequence[str]: ...

    @property
    def refs(self) -> dict[str, str]: ...

    @property
    def files(self) -> Sequence[File]: ...

    @property
    def root(self) -> Path | None: ...


class Hashing(Protocol):
    """A file on its way in; see store/adoption.py."""

    @property
    def hashed(self) -> bool: ...

    @property
    def digests(self) -> bytes: ...

    def step(self) -> int: ...

    def names(self) -> tuple[Blob, BlobId | None]: ...

    def close(self) -> None: ...


H = TypeVar("H", bound=Hashing)


class Adopter(Protocol[H]):
    """What a store can do besides the port that everybody uses; it takes only candidates of its own."""

    def candidate(self, path: Path, name: BlobId | None) -> H | None: ...

    def adopt(self, candidate: H, seal: Seal) -> bool: ...

    def adopted_as(self, path: Path) -> Blob | None: ...


@dataclass(frozen=True, slots=True)
class AdoptStep:
    """How far it is. `bytes_done` counts what was hashed, found here already, or given up."""

    files: int = 0
    files_done: int = 0
    bytes: int = 0
    bytes_done: int = 0
    adopted: int = 0  # files
    here: int = 0  # files that were in the store
    repos: int = 0
    repos_public: int = 0  # announced to peers
    rate: float = 0.0  # bytes/s so far
    failed: int = 0  # files
    failures: tuple[str, ...] = ()  # the first of them, in words, and why a repo is not announced
    over: bool = False


class Adopting:
    def __init__(
        self,
        delivery: Delivery,
        store: Store,
        adopter: Adopter[Any],
        *,
        key: Ed25519PrivateKey,
        quiet: Blocking,
        publications: Publications,
    ) -> None:
        self._publications = publications
        self._delivery = delivery
        self._store = store
        self._adopter = adopter
        self._key = key
        self._quiet = quiet
        self._step = AdoptStep(over=True)
        self._over = trio.Event()
        self._failure: StoreError | ConfigError | UnavailableError | None = None
        self._what = ""
        self._began = 0.0
        self._lasts_s = 0.0  # of what is published on the LAN
        self._blobs: dict[Path, Blob] = {}
        self._tasks = Tasks()
        self.run = self._tasks.run  # owns the work: who asked for it may leave

    async def adopt(
        self, what: str, find: Callable[[], Sequence[Found]], *, lasts_s: float = 0.0
    ) -> AsyncGenerator[AdoptStep, None]:
        """Begin with what `find` finds, or watch what was begun under the same name. A repo of the LAN is published for
        `lasts_s` at the end. Raises StoreError, ConfigError, UnavailableError."""
        self._tasks.check()
        if self._step.over:
            self._step, self._what, self._failure, self._over = AdoptStep(), what, None, trio.Event()
            self._lasts_s, self._began = lasts_s, trio.current_time()
            self._blobs.clear()
            self._tasks.start(self._work, what, find)
        elif self._what != what:
            raise UnavailableError(f"{self._what} is being adopted.", next_step="Wait for it, then ask again.")
        while not self._step.over:
            yield replace(self._step, rate=self._step.bytes_done / max(trio.current_time() - self._began, _REPORT_S))
            with trio.move_on_after(_REPORT_S):
                await self._over.wait()
        if self._failure is not None:
            raise self._failure
        yield self._step

    async def _work(self, what: str, find: Callable[[], Sequence[Found]]) -> None:
        try:
            repos = await self._quiet(find)
            files = [file for repo in repos for file in repo.files]
            self._step = AdoptStep(files=len(files), bytes=sum(file.size for file in files), repos=len(repos))
            for found in repos:
                for file in found.files:
                    await self._take(file)
                await (self._publish_on_lan(found) if found.repo.on_lan else self._show(found))
        except (StoreError, ConfigError, UnavailableError) as error:
            self._failure = error
        finally:
            self._step = replace(self._step, over=True)
            self._over.set()
        log.info("adopted", what=what, files=self._step.adopted, failed=self._step.failed)

    # One file

    async def _take(self, file: File) -> None:
        before = self._step.bytes_done
        try:
            taken = await self._adopt(file)
        except StoreError as error:
            self._note(str(error))
            self._step = replace(self._step, failed=self._step.failed + 1)
        else:
            step = self._step
            self._step = replace(step, adopted=step.adopted + taken, here=step.here + (not taken))
        self._step = replace(self._step, files_done=self._step.files_done + 1, bytes_done=before + file.size)

    async def _adopt(self, file: File) -> bool:
        candidate = await self._quiet(self._adopter.candidate, file.path, file.name)
        if candidate is None:
            if (known := self._adopter.adopted_as(file.path)) is not None:
                self._blobs[file.path] = known
            return False
        try:
            while not candidate.hashed:
                done = await self._quiet(candidate.step)
                self._step = replace(self._step, bytes_done=self._step.bytes_done + done)
            blob, _ = candidate.names()
            self._blobs[file.path] = blob
            seal = Seal.sign(Manifest(blob, candidate.digests), self._key)
            return await self._quiet(self._adopter.adopt, candidate, seal)
        finally:
            candidate.close()

    # One repo

    async def _show(self, found: Found) -> None:
        """What the hub lists to strangers is public; the cache's branches are known until the hub is asked for them."""
        public = False
        for revision in found.revisions:
            try:
                snapshot = await self._delivery.snapshot(found.repo, revision, Access())
                if snapshot.public:
                    await self._announce(snapshot, found)
                    public = True
            except P2pmodelError as error:
                self._note(f"{found.repo} at {revision[:12]} is kept to this node: {error}")
        for revision, commit in found.refs.items():
            known = self._store.snapshot(found.repo, commit)
            if known is not None and known.public and self._store.ref(found.repo, revision) is None:
                await self._quiet(self._store.put_ref, found.repo, revision, commit)
        self._step = replace(self._step, repos_public=self._step.repos_public + public)

    async def _publish_on_lan(self, found: Found) -> None:
        root = found.root
        if root is None or self._step.failed:
            raise StoreError(f"{found.repo} is not published: not all of its files are here.")
        files = [(file.path.relative_to(root).as_posix(), self._blobs[file.path]) for file in found.files]
        await self._publications.publish(found.repo, files, self._lasts_s)
        self._step = replace(self._step, repos_public=self._step.repos_public + 1)

    async def _announce(self, snapshot: Snapshot, found: Found) -> None:
        """What a client was given by this repo, whose files are everybody's, is; of anything else the hub is asked: its listing
        may name whatever it likes."""
        given = {self._blobs[file.path].id for file in found.files if file.path in self._blobs}
        here = [entry for entry in snapshot.files if self._sealed(entry)]
        for entry in here:
            if not await self._quiet(self._publish, entry, given):
                await self._delivery.entry(snapshot.repo, snapshot.commit, entry.path, Access())
        if here:
            await self._quiet(self._store.materialise, snapshot, here)

    def _sealed(self, entry: FileEntry) -> bool:
        state = self._store.find(entry.blob.id) if entry.blob else None
        return state is not None and state.sealed

    def _publish(self, entry: FileEntry, given: Container[BlobId]) -> bool:
        assert entry.blob is not None
        stored = self._store.open(entry.blob, private=True)
        try:
            if stored.private and stored.blob.id in given:
                stored.publish()
            return not stored.private
        finally:
            stored.close()

    def _note(self, failure: str) -> None:
        if len(self._step.failures) < ADOPT_FAILURES_TOLD_MAX:
            self._step = replace(self._step, failures=(*self._step.failures, failure))
