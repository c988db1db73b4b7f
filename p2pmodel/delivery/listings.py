"""Listings that members of a closed cluster sign for each other, so that a snapshot can be found while the hub is gone or
asks for patience.

Only public listings travel, and only in a closed cluster (DESIGN §9.3). What one says is hearsay: `catalog` marks it and asks
the hub as soon as it answers. Until then a member that lies could have its own files taken for the repo's, so several are
asked, and when two that have a listing of the commit differ, nobody is believed: without the hub no file is better than a
wrong one. A member whom the hub has proven wrong is not asked for a while.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pmodel.content import Blob, BlobId, FileEntry, Hub, NodeId, Repo, RepoKind, Snapshot
from p2pmodel.delivery.places import place_of
from p2pmodel.delivery.ports import Surroundings
from p2pmodel.delivery.signed import read_document, sign_document
from p2pmodel.errors import SourceError, UnavailableError
from p2pmodel.limits import LISTING_WITNESSES, MEMBERS_LISTING_S, SNAPSHOT_PAGE_BYTES_MAX
from p2pmodel.wire.messages import AskSnapshot, Message, SnapshotPage
from p2pmodel.wire.packed import pages

_PREFIX: Final = b"p2pmodel listing v1\0"
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


class _Listing(msgspec.Struct, frozen=True):
    hub: str
    kind: str
    name: str
    revision: str
    commit: str
    files: list[tuple[str, int, str | None]]  # path, size, blob name
    listing: bytes


def sign_listing(snapshot: Snapshot, revision: str, key: Ed25519PrivateKey) -> bytes:
    """public key ‖ signature ‖ deflated JSON (protocol/snapshots.md)."""
    repo = snapshot.repo
    files = [(entry.path, entry.size, str(entry.blob.id) if entry.blob else None) for entry in snapshot.files]
    listing = _Listing(repo.hub, repo.kind, repo.name, revision, snapshot.commit, files, snapshot.listing)
    return sign_document(listing, _PREFIX, key)


def read_listing(document: bytes, repo: Repo, revision: str) -> Snapshot:
    """Raises ValueError unless it is well signed, well formed and about what was asked."""
    _, listing = read_document(document, _PREFIX, _Listing, "listing")
    if not _COMMIT.fullmatch(listing.commit):
        raise ValueError("a listing of what is no commit")
    if Repo(Hub(listing.hub), RepoKind(listing.kind), listing.name) != repo or listing.revision != revision:
        raise ValueError("a listing of something else")
    files = tuple(FileEntry(path, size, Blob(BlobId.parse(blob), size) if blob else None) for path, size, blob in listing.files)
    return Snapshot(repo, listing.commit, files, listing.listing, public=True)


def listing_pages(request: int, document: bytes) -> list[SnapshotPage]:
    return [SnapshotPage(request=request, data=page, last=last) for _, page, last in pages(document, SNAPSHOT_PAGE_BYTES_MAX)]


def hearsay_key(snapshot: Snapshot) -> str:
    """The store's document that says who told us this listing; empty or absent where the hub did."""
    return f"told:{snapshot.repo.hub}:{snapshot.repo}:{snapshot.commit}"


@dataclass(frozen=True, slots=True)
class Told:
    """A listing, and the member who told it."""

    snapshot: Snapshot
    peer: NodeId


async def ask_members(around: Surroundings, repo: Repo, revision: str) -> Told | None:
    """What members say, None if nobody has it (or this is no closed cluster). Raises UnavailableError if they contradict
    each other."""
    if not around.closed:
        return None
    found: list[Told] = []
    now = trio.current_time()
    heard_of = [peer for peer in around.neighbours.linked() if not around.standing.is_banned(peer, now)]
    waiting = deque({place_of(peer, around.neighbours): peer for peer in heard_of}.values())  # one machine is one witness
    question = AskSnapshot(request=0, hub=repo.hub, kind=repo.kind, name=repo.name, revision=revision)
    with trio.move_on_after(MEMBERS_LISTING_S):
        async with trio.open_nursery() as nursery:

            async def lane() -> None:
                while waiting:
                    peer = waiting.popleft()
                    try:
                        answer = await around.neighbours.ask(peer, question)
                        found.append(Told(read_listing(_joined(answer), repo, revision), peer))
                    except (SourceError, ValueError):
                        continue
                    if len(found) >= LISTING_WITNESSES:
                        nursery.cancel_scope.cancel()

            for _ in range(LISTING_WITNESSES):
                nursery.start_soon(lane)
    return _agreed(found)


def _agreed(found: Sequence[Told]) -> Told | None:
    """Of the commit that most of them name. An older one of a branch is no contradiction: it was seen earlier."""
    if not found:
        return None
    commits = Counter(told.snapshot.commit for told in found)
    first, *others = [told for told in found if told.snapshot.commit == commits.most_common(1)[0][0]]
    for other in others:
        if set(other.snapshot.files) != set(first.snapshot.files):
            raise UnavailableError(
                f"Members {first.peer[:12]} and {other.peer[:12]} tell different files of {first.snapshot.repo} "
                f"at {first.snapshot.commit[:12]}, and the hub cannot be asked.",
                next_step="One of them lies or has a damaged disk: try again when the hub answers.",
            )
    return first


def _joined(answer: Sequence[Message]) -> bytes:
    return b"".join(page.data for page in answer if isinstance(page, SnapshotPage))
