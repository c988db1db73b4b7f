"""Models that exist in this cluster alone: `_lan/NAME`, published by a node for a time, signed by it, held by any hub's manner.

No hub is ever asked for such a name, and no hub can have it (owners there begin with a letter or a digit). A name belongs
to the node that published it first, for as long as that lasts: members keep and hand on its signed word (`AskSnapshot`), so
that the model outlives the node that brought it. Only in a closed cluster, as any listing of a member's (DESIGN §9.3).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from typing import Final

import msgspec
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pmodel.content import Blob, BlobId, FileEntry, Hub, Repo, RepoKind, Snapshot
from p2pmodel.content.naming import node_id_of
from p2pmodel.delivery.ports import Surroundings
from p2pmodel.delivery.signed import read_document, sign_document
from p2pmodel.errors import (
    ConfigError,
    RepoNotFoundError,
    RevisionNotFoundError,
    SourceError,
    StoreError,
    UnavailableError,
)
from p2pmodel.limits import MEMBERS_LISTING_S, PUBLICATION_S_MAX, REVISION_FRESH_S, SNAPSHOT_BYTES_MAX
from p2pmodel.wire.messages import AskSnapshot, SnapshotPage

_PREFIX: Final = b"p2pmodel publication v1\0"
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_POINTER: Final = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n"
_BRANCHES: Final = frozenset({"main", "HEAD"})


class Publication(msgspec.Struct, frozen=True):
    """What its node signs. Times are unix seconds."""

    kind: str
    name: str
    files: list[tuple[str, int, str]]  # path, size, blob name
    published: int
    expires: int

    @property
    def repo(self) -> Repo:
        return Repo(Hub.HUGGINGFACE, RepoKind(self.kind), self.name)

    @property
    def commit(self) -> str:
        return hashlib.sha1(msgspec.json.encode(self), usedforsecurity=False).hexdigest()

    def snapshot(self) -> Snapshot:
        files = tuple(FileEntry(path, size, Blob(BlobId.parse(blob), size)) for path, size, blob in self.files)
        return Snapshot(self.repo, self.commit, files, _listing(files), public=True)


class Signed(msgspec.Struct, frozen=True):
    publication: Publication
    signer: bytes
    document: bytes


def sign(publication: Publication, key: Ed25519PrivateKey) -> bytes:
    """public key ‖ signature ‖ deflated JSON (protocol/snapshots.md)."""
    return sign_document(publication, _PREFIX, key)


def read(document: bytes, repo: Repo) -> Signed:
    """Raises ValueError unless it is well signed, well formed and about that repo."""
    signer, publication = read_document(document, _PREFIX, Publication, "publication")
    if publication.repo != repo or not 0 < publication.expires - publication.published <= PUBLICATION_S_MAX:
        raise ValueError("a publication of something else, or for ever")
    publication.snapshot()  # every path, name and size is checked there
    return Signed(publication, signer, document)


class Publications:
    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._store = around.store
        self._own = around.key.public_key().public_bytes_raw()
        self._asked: dict[Repo, float] = {}  # when members were last asked

    async def find(self, repo: Repo, revision: str) -> Snapshot:
        """What is published under that name now. Raises RepoNotFoundError, RevisionNotFoundError, UnavailableError."""
        known = self.known(repo)
        if known is None or (known.signer != self._own and self._is_old(repo)):
            known = await self._ask(repo, known)
        if known is None:
            raise RepoNotFoundError(f"No node of this cluster publishes {repo} now.")
        snapshot = known.publication.snapshot()
        if revision not in _BRANCHES and revision != snapshot.commit:
            raise RevisionNotFoundError(f"{repo} has no revision {revision} any more.")
        if known.signer != self._own:
            self._check_nothing_is_revealed(snapshot)
        return snapshot

    def known(self, repo: Repo) -> Signed | None:
        """What this node knows of it, unless its time is over."""
        document = self._store.document(_key(repo))
        if not document:
            return None
        try:
            signed = read(document, repo)
        except ValueError:
            return None
        return signed if self._around.wall() < signed.publication.expires else None

    def forget(self, repo: Repo) -> None:
        """On this node; members that have it keep it until its time is over."""
        self._store.put_document(_key(repo), b"")

    def over(self) -> list[tuple[Repo, str]]:
        """Snapshots of publications that are known no more."""
        gone = []
        for repo, commit in self._store.snapshots():
            known = self.known(repo) if repo.on_lan else None
            if repo.on_lan and (known is None or known.publication.commit != commit):
                gone.append((repo, commit))
        return gone

    async def publish(self, repo: Repo, files: Sequence[tuple[str, Blob]], lasts_s: float) -> Snapshot:
        """From now on members find these files, which are sealed here, under that name. Raises ConfigError, StoreError."""
        if not self._around.closed:
            raise ConfigError(
                "Only members of a closed cluster publish to each other.",
                next_step="Run `p2pmodel cluster init` and join the other nodes.",
            )
        if not repo.on_lan or not 0 < lasts_s <= PUBLICATION_S_MAX:
            raise ConfigError(f"{repo} cannot be published for {lasts_s:.0f} s.")
        known = self.known(repo) or await self._ask(repo, None)
        if known is not None and known.signer != self._own:
            raise ConfigError(f"Node {node_id_of(known.signer)[:12]} publishes {repo}.", next_step="Take another name.")
        now = int(self._around.wall())
        listed = [(path, blob.size, str(blob.id)) for path, blob in sorted(files)]
        publication = Publication(repo.kind, repo.name, listed, now, now + math.ceil(lasts_s))
        try:
            snapshot = publication.snapshot()
        except ValueError as error:
            raise StoreError(f"This folder cannot be a repo: {error}.") from None
        document = sign(publication, self._around.key)
        if len(document) > SNAPSHOT_BYTES_MAX:
            raise StoreError(f"{len(files)} files are too many to be listed.")
        for _, blob in files:
            await self._around.blocking(self._make_public, blob)
        await self._keep(Signed(publication, self._own, document), snapshot)
        return snapshot

    def _make_public(self, blob: Blob) -> None:
        stored = self._store.open(blob, private=False)
        try:
            if not stored.sealed:
                raise StoreError(f"{blob.id} is not whole here.", next_step="Publish again.")
            stored.publish()
        finally:
            stored.close()

    async def _ask(self, repo: Repo, known: Signed | None) -> Signed | None:
        """What members know of it. Of several the newest of the node whose name it is; two nodes' are nobody's."""
        if not self._around.closed:
            return known
        heard = [known] if known else []
        question = AskSnapshot(request=0, hub=repo.hub, kind=repo.kind, name=repo.name, revision="main")
        for peer in self._around.neighbours.linked():
            with trio.move_on_after(MEMBERS_LISTING_S):
                try:
                    pages = await self._around.neighbours.ask(peer, question)
                    told = read(b"".join(page.data for page in pages if isinstance(page, SnapshotPage)), repo)
                except (SourceError, ValueError):
                    continue
                if self._around.wall() < told.publication.expires and (known is None or told.signer == known.signer):
                    heard.append(told)
        self._asked[repo] = trio.current_time()
        if not heard:
            return None
        if len({each.signer for each in heard}) > 1:
            raise UnavailableError(f"Two nodes publish {repo}.", next_step="One of them must take another name.")
        newest = max(heard, key=lambda each: each.publication.published)
        if newest is not known:
            await self._keep(newest, newest.publication.snapshot())
        return newest

    async def _keep(self, signed: Signed, snapshot: Snapshot) -> None:
        repo = snapshot.repo
        await self._around.blocking(self._store.put_document, _key(repo), signed.document)
        await self._around.blocking(self._store.put_snapshot, snapshot)
        await self._around.blocking(self._store.put_ref, repo, "main", snapshot.commit)

    def _is_old(self, repo: Repo) -> bool:
        asked = self._asked.get(repo)
        return asked is None or trio.current_time() - asked >= REVISION_FRESH_S

    def _check_nothing_is_revealed(self, snapshot: Snapshot) -> None:
        """A member must not make public what is private here: it would only have to name the blob."""
        states = (self._store.find(entry.blob.id) for entry in snapshot.files if entry.blob)
        if any(state is not None and state.private for state in states):
            raise UnavailableError(f"{snapshot.repo} names a file that is private on this node.")


def _key(repo: Repo) -> str:
    return f"lan:{repo}"


def _listing(files: Sequence[FileEntry]) -> bytes:
    """As Hugging Face lists a repo of large files."""
    entries: dict[str, dict[str, object]] = {}
    for entry in files:
        if entry.blob is None:
            continue
        parts = entry.path.split("/")
        for depth in range(1, len(parts)):
            below = "/".join(parts[:depth])
            entries[below] = {"type": "directory", "oid": _git(b"tree", below.encode()), "size": 0, "path": below}
        if entry.blob.id.algorithm == "git-sha1":
            entries[entry.path] = {"type": "file", "oid": entry.blob.id.hex, "size": entry.size, "path": entry.path}
            continue
        pointer = _POINTER % (entry.blob.id.hex.encode(), entry.size)
        lfs = {"oid": entry.blob.id.hex, "size": entry.size, "pointerSize": len(pointer)}
        entries[entry.path] = {
            "type": "file",
            "oid": _git(b"blob", pointer),
            "size": entry.size,
            "path": entry.path,
            "lfs": lfs,
        }
    return msgspec.json.encode([entries[path] for path in sorted(entries)])


def _git(kind: bytes, data: bytes) -> str:
    return hashlib.sha1(b"%s %d\0" % (kind, len(data)) + data, usedforsecurity=False).hexdigest()
