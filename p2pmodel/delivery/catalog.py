"""repo + revision + path → blob. The first answer that verifies: what is pinned here, the hub, a member of our cluster.

A commit never changes, so its listing is asked for once and kept. A branch is asked for again when its last answer is
older than a few seconds; when the hub is gone, the last answer stands. What the hub gave without a token is public;
everything else is answered only to a credential that the hub itself has let in lately.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio

from p2pmodel.content import Access, FileEntry, Repo, Snapshot
from p2pmodel.delivery.listings import ask_members
from p2pmodel.delivery.ports import Location, Surroundings
from p2pmodel.errors import (
    EntryNotFoundError,
    GatedRepoError,
    P2pmodelError,
    UnavailableError,
)
from p2pmodel.limits import ACCESS_ALLOW_S, ACCESS_DENY_S, ACCESS_ENTRIES_MAX, REVISION_FRESH_S

T = TypeVar("T")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


class Catalog:
    def __init__(self, around: Surroundings, *, access_allow_s: float = ACCESS_ALLOW_S, offline_grace_s: float = 0.0) -> None:
        self._around = around
        self._store = around.store
        self._upstreams = around.upstreams
        self._access_allow_s = access_allow_s
        self._offline_grace_s = offline_grace_s
        self._secret = around.rng.randbytes(32)
        self._asked: dict[tuple[Repo, str], tuple[float, str]] = {}  # when a branch was last asked for, and its commit
        self._verdicts: OrderedDict[bytes, tuple[float, bool]] = OrderedDict()
        self._flights: dict[tuple[object, ...], _Flight] = {}

    async def snapshot(self, repo: Repo, revision: str, access: Access) -> Snapshot:
        """See the `Delivery` port."""
        commit = self._known_commit(repo, revision)
        if commit is not None:
            known = self._store.snapshot(repo, commit)
            if known is not None and self._may_list(known, access):
                return known
        key = (repo, revision, self._tag(access))
        return await self._once(key, lambda: self._ask(repo, revision, access))

    async def pinned(self, repo: Repo, revision: str, access: Access) -> Snapshot:
        """Without asking the hub: what it last said, or what a member of our cluster says that it said."""
        commit = self._store.ref(repo, revision) or revision
        known = self._store.snapshot(repo, commit)
        if known is not None and self._may_list(known, access, grace_s=self._offline_grace_s):
            return known
        # What the hub gave us for a token alone does not become public by a member's word.
        told = await ask_members(self._around, repo, revision) if known is None or known.public else None
        if told is None:
            raise UnavailableError(f"{repo} at {revision} is not known here.", next_step="Fetch it once with the hub in reach.")
        await self._keep(told, revision)
        return told

    async def entry(self, repo: Repo, revision: str, path: str, access: Access) -> tuple[Snapshot, FileEntry]:
        snapshot = await self.snapshot(repo, revision, access)
        entry = snapshot.entry(path)
        if entry is None:
            raise EntryNotFoundError(f"{repo} has no file {path!r} at {snapshot.commit[:12]}.", commit=snapshot.commit)
        return snapshot, entry

    async def check_readable(self, snapshot: Snapshot, entry: FileEntry, access: Access, *, offline: bool = False) -> None:
        """A file that is not public is given to those whom the hub lets in, by their own credential. Raises
        NotAuthorisedError; UnavailableError when the hub cannot be asked and its last yes is too old."""
        if snapshot.public:
            return
        location = Location(snapshot.repo, snapshot.commit, entry.path, access)
        key = self._tag(access, str(snapshot.repo.hub), str(snapshot.repo), snapshot.commit, entry.path)
        allowed = self._verdict(key)
        if allowed is None:
            try:
                allowed = await self._ask_whether_readable(location, offline=offline)
            except UnavailableError:
                if not self._verdict(key, grace_s=self._offline_grace_s):
                    raise
                allowed = True
            else:
                self._remember(key, allowed=allowed)
        if not allowed:
            raise GatedRepoError(
                f"The hub does not give {snapshot.repo} to you.", next_step="Ask its owner for access, then log in."
            )

    async def _ask_whether_readable(self, location: Location, *, offline: bool) -> bool:
        if offline:
            raise UnavailableError(f"Whether you may read {location.repo} can only be asked of the hub.")
        return await self._upstreams.may_read(location)

    async def info(self, repo: Repo, revision: str, access: Access) -> bytes:
        """See the `Delivery` port."""
        snapshot = await self.snapshot(repo, revision, access)
        key = f"info:{repo.hub}:{repo}:{snapshot.commit}"
        if (kept := self._store.document(key)) is not None:
            return kept
        body = await self._upstreams.info(repo, snapshot.commit, access)
        await self._around.blocking(self._store.put_document, key, body)
        return body

    # Revisions

    def _known_commit(self, repo: Repo, revision: str) -> str | None:
        """The commit, where that needs no asking."""
        if _COMMIT.fullmatch(revision):
            return revision
        asked_at, commit = self._asked.get((repo, revision), (None, ""))
        if asked_at is not None and trio.current_time() - asked_at < REVISION_FRESH_S:
            return commit
        return None

    async def _ask(self, repo: Repo, revision: str, access: Access) -> Snapshot:
        try:
            return await self._ask_hub(repo, revision, access)
        except UnavailableError as trouble:
            try:
                return await self.pinned(repo, revision, access)
            except UnavailableError:
                raise trouble from None

    async def _ask_hub(self, repo: Repo, revision: str, access: Access) -> Snapshot:
        """Only the commit where the listing is known; both else."""
        pinned = self._store.ref(repo, revision)
        known = self._store.snapshot(repo, pinned) if pinned is not None else None
        if known is not None and known.public and await self._upstreams.commit(repo, revision, access) == known.commit:
            self._asked[repo, revision] = (trio.current_time(), known.commit)
            return known
        snapshot = await self._upstreams.snapshot(repo, revision, access)
        if not snapshot.public:
            self._remember(self._listing_key(snapshot, access), allowed=True)
        await self._keep(snapshot, revision)
        return snapshot

    async def _keep(self, snapshot: Snapshot, revision: str) -> None:
        await self._around.blocking(self._store.put_snapshot, snapshot)
        if not _COMMIT.fullmatch(revision):
            await self._around.blocking(self._store.put_ref, snapshot.repo, revision, snapshot.commit)
            self._asked[snapshot.repo, revision] = (trio.current_time(), snapshot.commit)

    # Who may see what

    def _may_list(self, snapshot: Snapshot, access: Access, grace_s: float = 0.0) -> bool:
        return snapshot.public or bool(self._verdict(self._listing_key(snapshot, access), grace_s=grace_s))

    def _listing_key(self, snapshot: Snapshot, access: Access) -> bytes:
        return self._tag(access, str(snapshot.repo.hub), str(snapshot.repo), snapshot.commit)

    def _tag(self, access: Access, *what: str) -> bytes:
        """Stands for a credential and what it asked for; tokens themselves are not kept."""
        keyed = hashlib.blake2b(key=self._secret, digest_size=16)
        for part in (access.token or "", *what):
            keyed.update(part.encode() + b"\0")
        return keyed.digest()

    def _verdict(self, key: bytes, grace_s: float = 0.0) -> bool | None:
        """What the hub said lately; None when it has to be asked."""
        at, allowed = self._verdicts.get(key, (None, False))
        if at is None:
            return None
        lasts = max(self._access_allow_s, grace_s) if allowed else ACCESS_DENY_S
        return allowed if trio.current_time() - at < lasts else None

    def _remember(self, key: bytes, *, allowed: bool) -> None:
        self._verdicts[key] = (trio.current_time(), allowed)
        self._verdicts.move_to_end(key)
        while len(self._verdicts) > ACCESS_ENTRIES_MAX:
            self._verdicts.popitem(last=False)

    # One question at a time

    async def _once(self, key: tuple[object, ...], ask: Callable[[], Awaitable[Snapshot]]) -> Snapshot:
        """Callers that ask the same at the same time share one answer; when the one that asks is cancelled, the next asks."""
        while (flight := self._flights.get(key)) is not None:
            await flight.over.wait()
            if flight.error is not None:
                raise flight.error.with_traceback(None)
            if flight.answer is not None:
                return flight.answer
        flight = self._flights[key] = _Flight()
        try:
            flight.answer = await ask()
        except P2pmodelError as error:
            flight.error = error
            raise
        else:
            return flight.answer
        finally:
            del self._flights[key]
            flight.over.set()


class _Flight:
    def __init__(self) -> None:
        self.over = trio.Event()
        self.answer: Snapshot | None = None
        self.error: P2pmodelError | None = None
