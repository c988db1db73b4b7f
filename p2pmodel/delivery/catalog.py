"""repo + revision + path → blob. The first answer that verifies: what is pinned here, the hub, a member of our cluster.

A commit never changes, so its listing is asked for once and kept. A branch is asked for again when its last answer is
older than a few seconds; when the hub is gone, the last answer stands. What the hub gave without a token is public;
everything else is answered only to a credential that the hub itself has let in lately.

How often a hub is asked, and who is believed (DESIGN §9.3): where a revision leads, whether a repo is public, and each file's
size and hash are the hub's own word to this node. Hugging Face tells all of it in one answer, so a node asks once per
commit, whoever of its clients wants what, and no other node could spare it that. Where the hub does not answer, or asks for
patience, the listing that members of a closed cluster signed stands in (`listings`): **hearsay**, which is marked as such in
the store and asked of the hub again as soon as it answers. A lie in it can do harm until then and no longer, and who told it
is rested.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from math import inf
from typing import Final

import structlog
import trio

from p2pmodel.content import Access, FileEntry, NodeId, Repo, Snapshot
from p2pmodel.delivery.court import Court
from p2pmodel.delivery.disclosure import Disclosure
from p2pmodel.delivery.listings import Told, ask_members, hearsay_key
from p2pmodel.delivery.once import Once
from p2pmodel.delivery.ports import Location, Surroundings
from p2pmodel.delivery.publications import Publications
from p2pmodel.delivery.verdicts import Asked, Verdicts
from p2pmodel.errors import (
    EntryNotFoundError,
    GatedRepoError,
    NotAuthorisedError,
    NotFoundError,
    OfflineError,
    RateLimitedError,
    RepoNotFoundError,
    UnavailableError,
)
from p2pmodel.limits import ACCESS_ALLOW_S, REVISION_FRESH_S
from p2pmodel.swarm import Why

log = structlog.get_logger()

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


class Catalog:
    def __init__(
        self,
        around: Surroundings,
        publications: Publications,
        court: Court,
        disclosure: Disclosure,
        *,
        access_allow_s: float = ACCESS_ALLOW_S,
        offline_grace_s: float = 0.0,
    ) -> None:
        self._publications = publications
        self._court = court
        self._disclosure = disclosure
        self._around = around
        self._store = around.store
        self._upstreams = around.upstreams
        self._verdicts = Verdicts(around.rng.randbytes(32), allow_s=access_allow_s, grace_s=offline_grace_s)
        self._asked: dict[tuple[Repo, str], tuple[float, str]] = {}  # when a branch was last asked for, and its commit
        self._revisions_at: dict[Repo, float] = {}  # when the list of branches and tags was last asked for
        self._once = Once()

    async def snapshot(self, repo: Repo, revision: str, access: Access) -> Snapshot:
        """See the `Delivery` port."""
        if repo.on_lan:
            return await self._publications.find(repo, revision)
        commit = self._known_commit(repo, revision)
        if commit is not None:
            known = self._store.snapshot(repo, commit)
            if known is not None and self._may_list(known, access) and not self._to_be_asked_again(known):
                return self._revealing_nothing(known)
        led = False

        async def lead() -> Snapshot:
            nonlocal led
            led = True
            return await self._ask(repo, revision, access)

        try:
            snapshot = await self._once.ask((repo, revision), lead)
        except (NotFoundError, NotAuthorisedError):
            if led:
                raise
        else:
            if led or snapshot.public:
                return snapshot
        # What is not public, each asks for with a credential of their own.
        return await self._once.ask((revision, self._verdicts.asked(access, repo)), lambda: self._ask(repo, revision, access))

    async def pinned(self, repo: Repo, revision: str, access: Access, trouble: UnavailableError | None = None) -> Snapshot:
        """Without asking the hub (which answered `trouble`): what it last said, or what a member of our cluster says that it
        said."""
        if repo.on_lan:
            return await self._publications.find(repo, revision)
        commit = self._store.ref(repo, revision) or revision
        known = self._store.snapshot(repo, commit)
        if known is not None and self._may_list(known, access, trouble=trouble or OfflineError("")):
            return self._revealing_nothing(known)
        # What the hub gave us for a token alone does not become public by a member's word.
        told = await ask_members(self._around, repo, revision) if known is None or known.public else None
        if told is None:
            raise UnavailableError(f"{repo} at {revision} is not known here.", next_step="Fetch it once with the hub in reach.")
        await self._keep_hearsay(told, revision)
        return self._revealing_nothing(told.snapshot)

    async def entry(self, repo: Repo, revision: str, path: str, access: Access) -> tuple[Snapshot, FileEntry]:
        snapshot = await self.snapshot(repo, revision, access)
        entry = snapshot.entry(path)
        if entry is None:
            raise EntryNotFoundError(f"{repo} has no file {path!r} at {snapshot.commit[:12]}.", commit=snapshot.commit)
        return snapshot, entry

    async def check_readable(self, snapshot: Snapshot, entry: FileEntry, access: Access, *, offline: bool = False) -> None:
        """A file that is not public is given to those whom the hub lets in, by their own credential; one that is, unless it is
        private here and the hub does not give it. Raises NotAuthorisedError; UnavailableError when the hub cannot be asked and
        its last yes is too old."""
        location = Location(snapshot.repo, snapshot.commit, entry.path, access)
        if snapshot.public:
            if entry.blob is not None:
                await self._disclosure.check(entry.blob, None if snapshot.repo.on_lan or offline else location)
            return
        asked = self._verdicts.asked(access, snapshot.repo, snapshot.commit, entry.path)
        allowed = self._verdicts.find(asked)
        if allowed is None:
            try:
                allowed = await self._once.ask(asked, lambda: self._ask_whether_readable(location, offline=offline))
            except UnavailableError as trouble:
                if not self._verdicts.find(asked, trouble=trouble):
                    raise
                allowed = True
            else:
                (self._verdicts.allowed if allowed else self._verdicts.refused)(asked)
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
        if repo.on_lan:
            raise UnavailableError(f"No hub says anything about {repo}.", next_step="Its listing says what there is.")
        if (kept := self._store.document(_info_key(snapshot))) is not None:
            return kept
        whose = None if snapshot.public else self._listing_key(snapshot, access)
        return await self._once.ask(("info", repo, snapshot.commit, whose), lambda: self._ask_info(snapshot, access))

    async def _ask_info(self, snapshot: Snapshot, access: Access) -> bytes:
        body = await self._upstreams.info(snapshot.repo, snapshot.commit, access)
        await self._around.blocking(self._store.put_document, _info_key(snapshot), body)
        return body

    async def revisions(self, repo: Repo, access: Access) -> bytes:
        """See the `Delivery` port. Most clients begin with this question, and those of a job begin together."""
        key = f"revisions:{repo.hub}:{repo}"
        kept = self._store.document(key)
        asked_at = self._revisions_at.get(repo)
        if kept is not None and asked_at is not None and trio.current_time() - asked_at < REVISION_FRESH_S:
            return kept
        asking = ("revisions", self._verdicts.asked(access, repo))
        try:
            return await self._once.ask(asking, lambda: self._ask_revisions(repo, access, key))
        except UnavailableError:
            if kept is None:
                raise
            return kept

    async def _ask_revisions(self, repo: Repo, access: Access, key: str) -> bytes:
        body, public = await self._upstreams.revisions(repo, access)
        if public:  # what took a credential is told to whoever has one, each time
            if body != self._store.document(key):  # kept before anybody else may ask
                await self._around.blocking(self._store.put_document, key, body)
            self._revisions_at[repo] = trio.current_time()
        return body

    def forget_branches(self, repo: Repo) -> None:
        """They have moved: the next who asks is not answered from memory."""
        self._revisions_at.pop(repo, None)
        for key in [key for key in self._asked if key[0] == repo]:
            del self._asked[key]

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
        except (RepoNotFoundError, NotAuthorisedError):
            self._verdicts.refused(self._verdicts.asked(access, repo))
            await self._close_if_shut(repo)
            raise
        except UnavailableError as trouble:
            try:
                snapshot = await self.pinned(repo, revision, access, trouble)
            except UnavailableError:
                raise trouble from None
            self._asked[repo, snapshot.commit] = (trio.current_time(), snapshot.commit)
            return snapshot

    async def _ask_hub(self, repo: Repo, revision: str, access: Access) -> Snapshot:
        """Only the commit where the listing is known; both else."""
        pinned = self._store.ref(repo, revision)
        known = self._store.snapshot(repo, pinned) if pinned is not None else None
        if known is not None and known.public and not self._hearsay_of(known):
            commit, public = await self._upstreams.commit(repo, revision, access)
            if commit == known.commit and public:
                self._asked[repo, revision] = (trio.current_time(), known.commit)
                return known
            if not public:
                await self._close(repo)
        snapshot = await self._upstreams.snapshot(repo, revision, access)
        if not snapshot.public:
            self._verdicts.allowed(self._listing_key(snapshot, access))
        await self._keep(snapshot, revision)
        return snapshot

    async def _close_if_shut(self, repo: Repo) -> None:
        """Somebody was refused what is public here. That may be a mirror's word; the hub itself is asked as a stranger."""
        for known in self._public_snapshots(repo):
            entry = next(iter(known.files), None)
            with suppress(UnavailableError, RateLimitedError):
                if entry is None or not await self._upstreams.may_read(Location(repo, known.commit, entry.path, Access())):
                    await self._close(repo)
            return

    async def _close(self, repo: Repo) -> None:
        """Its owner has made it private, or gated: it is for those whom the hub lets in now, old commits as well."""
        for known in self._public_snapshots(repo):
            await self._around.blocking(self._store.put_snapshot, replace(known, public=False))

    def _public_snapshots(self, repo: Repo) -> list[Snapshot]:
        snapshots = (self._store.snapshot(repo, commit) for each, commit in self._store.snapshots() if each == repo)
        return [known for known in snapshots if known is not None and known.public]

    async def _keep(self, snapshot: Snapshot, revision: str) -> None:
        if teller := self._hearsay_of(snapshot):
            await self._settle(snapshot, NodeId(teller))
        await self._around.blocking(self._store.put_snapshot, snapshot)
        if snapshot.info is not None:
            await self._around.blocking(self._store.put_document, _info_key(snapshot), snapshot.info)
        await self._refer(snapshot, revision)

    async def _refer(self, snapshot: Snapshot, revision: str) -> None:
        if not _COMMIT.fullmatch(revision):
            await self._around.blocking(self._store.put_ref, snapshot.repo, revision, snapshot.commit)
            self._asked[snapshot.repo, revision] = (trio.current_time(), snapshot.commit)

    # Hearsay

    async def _keep_hearsay(self, told: Told, revision: str) -> None:
        """The mark first: a crash in between must not make it the hub's own word."""
        await self._around.blocking(self._store.put_document, hearsay_key(told.snapshot), told.peer.encode())
        await self._around.blocking(self._store.put_snapshot, told.snapshot)
        await self._refer(told.snapshot, revision)

    def _hearsay_of(self, snapshot: Snapshot) -> str:
        """Who told us this listing; "" where the hub itself did."""
        return (self._store.document(hearsay_key(snapshot)) or b"").decode()

    def _revealing_nothing(self, known: Snapshot) -> Snapshot:
        """Hearsay must not make public what is private here: it would only have to name the blob (DESIGN §9.5)."""
        if self._hearsay_of(known):
            states = [self._store.find(entry.blob.id) for entry in known.files if entry.blob]
            if any(state is not None and state.private for state in states):
                raise UnavailableError(f"Whether {known.repo} is public can only be asked of the hub.")
        return known

    def _to_be_asked_again(self, known: Snapshot) -> bool:
        """Hearsay, for which the hub was not asked within the last seconds."""
        asked_at, _ = self._asked.get((known.repo, known.commit), (-inf, ""))
        return trio.current_time() - asked_at >= REVISION_FRESH_S and bool(self._hearsay_of(known))

    async def _settle(self, snapshot: Snapshot, teller: NodeId) -> None:
        """The hub has spoken at last: was it the truth that we were told?"""
        told = self._store.snapshot(snapshot.repo, snapshot.commit)
        if told is not None and set(told.files) != set(snapshot.files):
            log.warning("listing_was_false", repo=str(snapshot.repo), commit=snapshot.commit, told_by=teller)
            self._court.suspend(teller, Why.FALSE_LISTING)
        await self._around.blocking(self._store.put_document, hearsay_key(snapshot), b"")

    # Who may see what

    def _may_list(self, snapshot: Snapshot, access: Access, *, trouble: UnavailableError | None = None) -> bool:
        return snapshot.public or bool(self._verdicts.find(self._listing_key(snapshot, access), trouble=trouble))

    def _listing_key(self, snapshot: Snapshot, access: Access) -> Asked:
        return self._verdicts.asked(access, snapshot.repo, snapshot.commit)


def _info_key(snapshot: Snapshot) -> str:
    return f"info:{snapshot.repo.hub}:{snapshot.repo}:{snapshot.commit}"
