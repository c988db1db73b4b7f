"""What the owner does with what is held: pin it, remove it, make room, hash it again and mend what was damaged."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

import trio

from p2pmodel.content import Access, Blob, BlobId, Hub, Repo, Snapshot, commit_of
from p2pmodel.delivery.blocking import Blocking
from p2pmodel.delivery.ports import Delivery, Selection, Store
from p2pmodel.delivery.publications import Publications
from p2pmodel.errors import P2pmodelError, RepoNotFoundError, StoreError
from p2pmodel.limits import ADOPT_FAILURES_TOLD_MAX, ADOPT_STEP_CHUNKS, GC_AGE_S

_MAIN_BRANCH = {Hub.HUGGINGFACE: "main", Hub.MODELSCOPE: "master"}
_REPORT_S = 0.5


class Keeper(Store, Protocol):
    """What a store can do besides the port that everybody uses."""

    def remove(self, blob: BlobId) -> None: ...

    def forget_snapshot(self, repo: Repo, commit: str) -> None: ...

    def pin(self, repo: Repo, commit: str) -> None: ...

    def unpin(self, repo: Repo, commit: str) -> None: ...

    def pins(self) -> Sequence[tuple[Repo, str]]: ...

    def adopted(self, blob: BlobId) -> bool: ...

    def used(self, blob: BlobId) -> int | None: ...

    def make_room(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Removed:
    """`busy` blobs are being read or written: they stay until the next gc."""

    snapshots: tuple[str, ...] = ()  # commits
    blobs: int = 0
    bytes: int = 0
    busy: int = 0


@dataclass(frozen=True, slots=True)
class VerifyStep:
    """`damaged` chunks were thrown away; `mended` of the files that had some are whole again."""

    files: int = 0
    files_done: int = 0
    bytes: int = 0
    bytes_done: int = 0
    rate: float = 0.0  # bytes/s so far
    damaged: int = 0  # chunks
    mended: int = 0  # files
    failures: tuple[str, ...] = ()  # files that are not whole now, and why
    over: bool = False


class Upkeep:
    def __init__(
        self,
        delivery: Delivery,
        store: Keeper,
        *,
        blocking: Blocking,
        quiet: Blocking,
        publications: Publications,
        clock: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._publications = publications
        self._delivery = delivery
        self._store = store
        self._blocking = blocking
        self._quiet = quiet

    # Pins

    async def pin(self, repo: Repo, revision: str) -> str:
        """Keep a snapshot from eviction; its commit. Raises RepoNotFoundError."""
        commit = self._one(repo, revision)
        await self._blocking(self._store.pin, repo, commit)
        return commit

    async def unpin(self, repo: Repo, revision: str) -> Sequence[str]:
        """The commits that were pinned: that of a revision, or all."""
        pinned = [commit for known, commit in self._store.pins() if known == repo]
        wanted = set(self._commits(repo, revision)) if revision else set(pinned)
        for commit in (loosened := [commit for commit in pinned if commit in wanted]):
            await self._blocking(self._store.unpin, repo, commit)
        return loosened

    # Removing

    async def remove(self, repo: Repo, revision: str) -> Removed:
        """A snapshot, or all of a repo, with the blobs that no other snapshot names. Raises RepoNotFoundError, StoreError."""
        commits = self._commits(repo, revision)
        if pinned := {commit for known, commit in self._store.pins() if known == repo}.intersection(commits):
            raise StoreError(f"{repo} at {min(pinned)[:12]} is pinned.", next_step="Unpin it first.")
        if repo.on_lan:
            await self._blocking(self._publications.forget, repo)
        return await self._blocking(self._remove, repo, commits)

    async def collect(self, *, dry_run: bool) -> Removed:
        """Remove what no snapshot names and nobody used lately (an upload's listing is on its way), then evict what is over
        the quota. Raises StoreFullError."""
        if not dry_run:
            for repo, commit in self._publications.over():
                await self._blocking(self._store.forget_snapshot, repo, commit)
        loose = await self._blocking(self._loose)
        if dry_run:
            return Removed(blobs=len(loose), bytes=sum(blob.size for blob in loose))
        removed = await self._blocking(self._drop, loose)
        await self._blocking(self._store.make_room)
        return removed

    def _remove(self, repo: Repo, commits: Sequence[str]) -> Removed:
        snapshots = [snapshot for commit in commits if (snapshot := self._store.snapshot(repo, commit))]
        for commit in commits:
            self._store.forget_snapshot(repo, commit)
        named = self._named()
        here = {blob.id: blob for snapshot in snapshots for blob in self._here(snapshot) if blob.id not in named}
        return replace(self._drop(here.values()), snapshots=tuple(commits))

    def _loose(self) -> list[Blob]:
        named = self._named()
        before = self._clock() - GC_AGE_S
        blobs = [state.blob for state in self._store.blobs() if (self._store.used(state.blob.id) or 0) < before]
        return [blob for blob in blobs if blob.id not in named and not self._store.adopted(blob.id)]

    def _named(self) -> set[BlobId]:
        """Every blob of the store that a snapshot names."""
        snapshots = (self._store.snapshot(repo, commit) for repo, commit in self._store.snapshots())
        return {blob.id for snapshot in snapshots if snapshot for blob in self._here(snapshot)}

    def _here(self, snapshot: Snapshot) -> list[Blob]:
        """As the store calls them: a small file has two names."""
        states = (self._store.find(entry.blob.id) for entry in snapshot.files if entry.blob)
        return [state.blob for state in states if state]

    def _drop(self, blobs: Iterable[Blob]) -> Removed:
        removed = Removed()
        for blob in blobs:
            try:
                freed = 0 if self._store.adopted(blob.id) else blob.size
                self._store.remove(blob.id)
                removed = replace(removed, blobs=removed.blobs + 1, bytes=removed.bytes + freed)
            except StoreError:
                removed = replace(removed, busy=removed.busy + 1)
        return removed

    # Verifying

    async def verify(self, repo: Repo | None, revision: str) -> AsyncGenerator[VerifyStep, None]:
        """Hash what is stored again, at low priority; damaged chunks are thrown away and fetched again, where the file is
        public: whose token a private one would take is not ours to decide. Raises RepoNotFoundError."""
        chosen = self._store.snapshots() if repo is None else [(repo, commit) for commit in self._commits(repo, revision)]
        where = await self._blocking(self._whose, chosen)
        if repo is None:
            for held in self._store.blobs():
                where.setdefault(held.blob, [])
        blobs = [blob for blob in where if (state := self._store.find(blob.id)) and state.sealed]
        step = VerifyStep(files=len(blobs), bytes=sum(blob.size for blob in blobs))
        told = began = trio.current_time()
        for blob in blobs:
            done, lost = step.bytes_done, 0
            async with aclosing(self._check(blob)) as runs:
                async for checked, damaged in runs:
                    lost += damaged
                    step = replace(step, bytes_done=step.bytes_done + checked, damaged=step.damaged + damaged)
                    if trio.current_time() - told >= _REPORT_S:
                        told = trio.current_time()
                        yield replace(step, rate=step.bytes_done / (told - began))
            if lost:
                step = await self._mend(step, blob, where[blob])
            step = replace(step, files_done=step.files_done + 1, bytes_done=done + blob.size)
        yield replace(step, over=True)

    def _whose(self, chosen: Iterable[tuple[Repo, str]]) -> dict[Blob, list[tuple[Snapshot, str]]]:
        """Each blob here, and a file of each snapshot that it is."""
        where: dict[Blob, list[tuple[Snapshot, str]]] = {}
        for repo, commit in chosen:
            snapshot = self._store.snapshot(repo, commit)
            for entry in snapshot.files if snapshot else ():
                state = self._store.find(entry.blob.id) if entry.blob else None
                if snapshot and state:
                    where.setdefault(state.blob, []).append((snapshot, entry.path))
        return where

    async def _check(self, blob: Blob) -> AsyncGenerator[tuple[int, int], None]:
        """Bytes hashed and chunks found damaged, some chunks at a time."""
        state = self._store.find(blob.id)
        stored = await self._quiet(lambda: self._store.open(blob, private=state is None or state.private))
        try:
            chunks = list(stored.held)
            for start in range(0, len(chunks), ADOPT_STEP_CHUNKS):
                run = chunks[start : start + ADOPT_STEP_CHUNKS]
                right = await self._quiet(lambda run=run: [stored.confirm(index) for index in run])
                yield min(len(run) * (blob.size // max(1, len(chunks))), blob.size), right.count(False)
        finally:
            with trio.CancelScope(shield=True):
                await self._blocking(stored.close)

    async def _mend(self, step: VerifyStep, blob: Blob, files: Sequence[tuple[Snapshot, str]]) -> VerifyStep:
        failure = f"{blob.id} belongs to no public snapshot: it is fetched again when somebody asks for it"
        for snapshot, path in files:
            if not snapshot.public:
                continue
            try:
                selection = Selection(paths=(path,))
                async with self._delivery.fetch(snapshot.repo, snapshot.commit, selection, Access()) as progress:
                    async for _ in progress:
                        pass
                return replace(step, mended=step.mended + 1)
            except P2pmodelError as error:
                failure = f"{snapshot.repo} {path}: {error}"
        return replace(step, failures=(*step.failures, failure)[:ADOPT_FAILURES_TOLD_MAX])

    # Which snapshots are meant

    def _commits(self, repo: Repo, revision: str) -> list[str]:
        """Those of a repo that are known here; of one revision, if one is named. Raises RepoNotFoundError."""
        commits = [commit for known, commit in self._store.snapshots() if known == repo]
        if revision:
            wanted = self._store.ref(repo, revision) or commit_of(revision, commits)
            commits = [commit for commit in commits if commit == wanted]
        if not commits:
            at = f" at {revision}" if revision else ""
            raise RepoNotFoundError(f"{repo}{at} is not known here.", next_step="`p2pmodel list` shows what is.")
        return commits

    def _one(self, repo: Repo, revision: str) -> str:
        main = self._store.ref(repo, _MAIN_BRANCH[repo.hub])
        commits = self._commits(repo, revision)
        return main if not revision and main in commits else commits[-1]
