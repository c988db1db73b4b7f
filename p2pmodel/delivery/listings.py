"""Listings that members of a closed cluster sign for each other, so that a snapshot can be found when the hub is gone.

Only public listings travel, and only in a closed cluster (DESIGN §9.3). Each node still checks every blob by the hash
that stands in the listing; a member that lies about the listing is one that the cluster let in.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from p2pmodel.content import Blob, BlobId, FileEntry, Hub, Repo, RepoKind, Snapshot
from p2pmodel.delivery.ports import Surroundings
from p2pmodel.errors import SourceError
from p2pmodel.limits import SNAPSHOT_BYTES_MAX
from p2pmodel.wire.messages import AskSnapshot, Message, SnapshotPage

_PREFIX: Final = b"p2pmodel listing v1\0"
_PAGE_BYTES: Final = 60_000
_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
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
    body = zlib.compress(msgspec.json.encode(listing), 6)
    return key.public_key().public_bytes_raw() + key.sign(_PREFIX + body) + body


def read_listing(document: bytes, repo: Repo, revision: str) -> Snapshot:
    """Raises ValueError unless it is well signed, well formed and about what was asked."""
    signer, rest = document[:_KEY_BYTES], document[_KEY_BYTES:]
    signature, body = rest[:_SIGNATURE_BYTES], rest[_SIGNATURE_BYTES:]
    try:
        Ed25519PublicKey.from_public_bytes(signer).verify(signature, _PREFIX + body)
        inflater = zlib.decompressobj()
        text = inflater.decompress(body, SNAPSHOT_BYTES_MAX)
        if inflater.unconsumed_tail:
            raise ValueError("a listing larger than any hub's")
        listing = msgspec.json.decode(text, type=_Listing)
    except (InvalidSignature, zlib.error, msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"a listing that cannot be believed: {error}") from None
    if not _COMMIT.fullmatch(listing.commit):
        raise ValueError("a listing of what is no commit")
    if Repo(Hub(listing.hub), RepoKind(listing.kind), listing.name) != repo or listing.revision != revision:
        raise ValueError("a listing of something else")
    files = tuple(FileEntry(path, size, Blob(BlobId.parse(blob), size) if blob else None) for path, size, blob in listing.files)
    return Snapshot(repo, listing.commit, files, listing.listing, public=True)


def listing_pages(request: int, document: bytes) -> list[SnapshotPage]:
    starts = range(0, len(document), _PAGE_BYTES)
    return [
        SnapshotPage(request=request, data=document[start : start + _PAGE_BYTES], last=start + _PAGE_BYTES >= len(document))
        for start in starts
    ]


async def ask_members(around: Surroundings, repo: Repo, revision: str) -> Snapshot | None:
    """The first listing that a member signed for us, None if nobody has one (or this is no closed cluster)."""
    if not around.closed:
        return None
    question = AskSnapshot(request=0, hub=repo.hub, kind=repo.kind, name=repo.name, revision=revision)
    for peer in around.neighbours.linked():
        try:
            return read_listing(_joined(await around.neighbours.ask(peer, question)), repo, revision)
        except (SourceError, ValueError):
            continue
    return None


def _joined(pages: Sequence[Message]) -> bytes:
    return b"".join(page.data for page in pages if isinstance(page, SnapshotPage))
