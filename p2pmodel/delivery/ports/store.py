"""The store: blobs that come in chunk by chunk and are sealed, and what hubs said about them.

Its verbs block: delivery calls them through its `Blocking` seam, a simulation runs it inline.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from p2pmodel.content import Attestation, Blob, BlobId, ChunkMap, FileEntry, Grade, Manifest, Repo, Seal, Snapshot
from p2pmodel.wire.packed import InventoryEntry


@dataclass(frozen=True, slots=True)
class BlobState:
    blob: Blob
    held: int  # chunks
    sealed: bool
    private: bool


class StoredBlob(Protocol):
    """A blob of the store, open. One live object per blob; closed when its last user closes it.

    The three maps are live: they change as chunks come and go, and stay the same objects. `held`: written and verified in
    this run. `own`: of those, the ones whose grade lets them leave before the seal. `claimed`: an earlier run's record says so;
    `confirm` makes them held.
    """

    blob: Blob
    sealed: bool
    private: bool
    seal: Seal | None  # ours or a peer's, once there is one

    @property
    def held(self) -> ChunkMap: ...

    @property
    def own(self) -> ChunkMap: ...

    @property
    def claimed(self) -> ChunkMap: ...

    def fileno(self) -> int: ...

    def digest(self, index: int) -> bytes | None:
        """32 bytes, None while unknown."""

    def grade(self, index: int) -> Grade:
        """Who vouches for the digest of a chunk that is held and not sealed."""

    def word(self, index: int) -> Attestation | None:
        """The signed word for the digest of a chunk that is held or claimed, if it came with one: in this run or an earlier."""

    def write(self, index: int, data: memoryview, digest: bytes, grade: Grade, word: Attestation | None = None) -> None:
        """Put a verified chunk at its place; then it is held. `word` is kept with it, until the seal. An own
        chunk, which clients may be reading, is never replaced: raises WrongBytesError for other bytes. Raises StoreFullError,
        StoreError as well."""

    def prove(self, index: int, digest: bytes) -> bool:
        """A held chunk with this digest is what the hub's own root says: grade ROOT. False if it is no longer here."""

    def commit(self) -> None:
        """Group commit: sync data, append to the record, sync. What was held before the call is durable after it."""

    def confirm(self, index: int) -> bool:
        """Re-hash a claimed chunk: held if it is what the record says, else forgotten."""

    def check(self, index: int) -> bool:
        """Whether a held chunk on disk still is what it was; hashes on first use and when the file's stat moved. A damaged
        chunk is dropped (and a sealed blob is sealed no more)."""

    def read_into(self, index: int, buffer: memoryview) -> None: ...

    def drop(self, chunks: Iterable[int]) -> None:
        """Forget chunks that turned out false or damaged."""

    def finish(self, alias: BlobId | None, seal: Seal) -> None:
        """All chunks are here and the blob's own hash was right: sync, rename, sync the directory, read-only, sealed. Raises
        WrongBytesError if what is here is not (or no longer) what the seal speaks for, StoreError."""

    def manifest(self) -> Manifest:
        """Of a complete blob."""

    def publish(self) -> None:
        """It is everybody's: the hub gave it to a stranger."""

    def withdraw(self) -> None:
        """It is private from now on, unless it was whole here as everybody's: then it stays."""

    def close(self, *, keep_open: bool = False) -> None:
        """`keep_open`: its files stay open for whoever opens it next, until it is removed or others need their place."""


class Spool(Protocol):
    """A nameless file: what a client uploads through us, until it is proven. Gone with its last user. Raises StoreError."""

    def grow(self, size: int) -> None:
        """Room for so many bytes more."""

    def write(self, data: bytes, offset: int) -> None: ...

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """How many bytes came."""

    def close(self) -> None: ...


class Store(Protocol):
    def find(self, blob: BlobId) -> BlobState | None:
        """Aliases (git-sha1 and sha256 of one small file) lead to the same state."""

    def open(self, blob: Blob, *, private: bool) -> StoredBlob:
        """Open what is there, or begin a partial blob, `private` or not."""

    def spool(self, size: int) -> Spool:
        """Room for so many bytes that nobody has proven yet. Raises StoreFullError, StoreError."""

    def pieces(self, blob: BlobId, first: int, count: int) -> bytes:
        """Of the list of a sealed blob's pieces, so many entries from piece `first` on (content/pieces.py); as many as there
        are, none without a list. Raises StoreError."""

    def keep_pieces(self, blob: BlobId, entries: bytes) -> None:
        """The list of a sealed blob's pieces; gone with the blob. Raises StoreError."""

    def check_room(self, size: int, keep: Collection[BlobId]) -> None:
        """Raises StoreFullError if so many more bytes cannot come beside the blobs of `keep`; evicts nothing."""

    def blobs(self) -> Sequence[BlobState]: ...

    def inventory(self) -> tuple[int, bytes]:
        """Sequence number (of this boot) and 16-byte digest of the public inventory. Cheap, called often."""

    def inventory_since(self, sequence: int) -> Sequence[InventoryEntry] | None:
        """Changes since a sequence of this boot; None when it is too old to tell (send everything)."""

    def put_snapshot(self, snapshot: Snapshot) -> None: ...

    def snapshot(self, repo: Repo, commit: str) -> Snapshot | None: ...

    def snapshots(self) -> Sequence[tuple[Repo, str]]: ...

    def put_ref(self, repo: Repo, revision: str, commit: str) -> None:
        """Pin a branch or tag to the commit that the hub last said."""

    def ref(self, repo: Repo, revision: str) -> str | None: ...

    def put_document(self, key: str, body: bytes) -> None:
        """Small hub answers kept for later (model info): key is chosen by the caller."""

    def document(self, key: str) -> bytes | None: ...

    def materialise(self, snapshot: Snapshot, files: Sequence[FileEntry]) -> Path:
        """The snapshot's directory in the Hugging Face cache tree, with links for the sealed blobs of `files`."""

    def close(self) -> None: ...
