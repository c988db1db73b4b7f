"""What the store knows of its blobs without opening them: an image in memory of the files on disk, their names and bytes.

The files say which blobs are here and whether they are sealed; the image is made from directory listings at start and moved
along with every change (keeping.py), so that a question about a blob touches no disk.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from p2pmodel.content import Blob, BlobId, ChunkMap, chunk_count, chunk_size
from p2pmodel.delivery.ports import BlobState
from p2pmodel.store.blobs import DiskBlob
from p2pmodel.store.freshness import Freshness
from p2pmodel.store.inventory import Inventory
from p2pmodel.wire.packed import PARTIAL, REMOVED, SEALED


@dataclass(slots=True)
class StoreStatistics:
    """Bytes are those of chunks that are here; a partial file is sparse."""

    quota_bytes: int = 0
    bytes_sealed: int = 0
    bytes_partial: int = 0
    bytes_adopted: int = 0  # of those sealed: files of somebody's cache, which take no room of ours
    blobs_evicted: int = 0
    chunks_damaged: int = 0  # found on the disk not to be what was written


@dataclass(slots=True)
class Entry:
    """One blob. `live` while it is open: in use, or kept open for its next user. `held` and `bytes` hold while it is not."""

    blob: Blob
    private: bool
    sealed: bool
    held: int  # chunks
    bytes: int  # of those
    used: int  # unix seconds
    fresh: Freshness
    live: DiskBlob | None = None

    @classmethod
    def begun(cls, blob: Blob, *, private: bool) -> Entry:
        return cls(blob, private, sealed=False, held=0, bytes=0, used=0, fresh=Freshness(chunk_count(blob.size)))

    @classmethod
    def whole(cls, blob: Blob, fresh: Freshness, *, private: bool, used: int) -> Entry:
        count = chunk_count(blob.size)
        return cls(blob, private, sealed=True, held=count, bytes=blob.size, used=used, fresh=fresh)

    @property
    def in_use(self) -> bool:
        return self.live is not None and self.live.users > 0

    @property
    def state(self) -> BlobState:
        held = len(self.live.held | self.live.claimed) if self.live else self.held
        return BlobState(self.blob, held, self.sealed, self.private)

    def hold(self, here: ChunkMap) -> None:
        """These chunks of it, now that nobody has it open."""
        self.held = len(here)
        self.bytes = self.blob.size if self.sealed else bytes_of(self.blob, here)


class Image:
    """Only `count` may be called from any thread; for all else the caller holds the store's lock."""

    def __init__(self, aliases: Mapping[BlobId, BlobId], *, quota_bytes: int) -> None:
        self.statistics = StoreStatistics(quota_bytes=quota_bytes)
        self.inventory = Inventory()
        self.entries: dict[BlobId, Entry] = {}
        self._aliases = dict(aliases)
        self._counting = threading.Lock()  # innermost: guards the byte counts

    def find(self, blob: BlobId) -> Entry | None:
        return self.entries.get(blob) or self.entries.get(self.name(blob))

    # Names

    def name(self, blob: BlobId) -> BlobId:
        """The one that the blob lies under here, which is another where two hubs name one small file."""
        return self._aliases.get(blob, blob)

    def names(self, blob: BlobId) -> list[BlobId]:
        return [blob, *(alias for alias, name in self._aliases.items() if name == blob)]

    def add_alias(self, alias: BlobId, blob: BlobId) -> None:
        self._aliases[alias] = blob

    def forget_aliases(self, blob: BlobId) -> None:
        self._aliases = {alias: name for alias, name in self._aliases.items() if name != blob}

    # Blobs that come and go

    def begin_with(self, entries: Iterable[Entry]) -> None:
        """What lies on disk at start."""
        for entry in entries:
            self.entries[entry.blob.id] = entry
            self._count_in(entry, 1)
        public = (entry for entry in self.entries.values() if not entry.private)
        self.inventory.begin_with({entry.blob: SEALED if entry.sealed else PARTIAL for entry in public})

    def adopt(self, entry: Entry) -> None:
        """A file of somebody's cache, which is private as yet."""
        self.entries[entry.blob.id] = entry
        self._count_in(entry, 1)
        self.count(adopted=entry.blob.size)

    def remove(self, entry: Entry) -> None:
        del self.entries[entry.blob.id]
        self.forget_aliases(entry.blob.id)
        self._count_in(entry, -1)
        if not entry.private:
            self.inventory.set(entry.blob, REMOVED)

    def announce(self, stored: DiskBlob, *, gone: bool = False) -> None:
        """Tell peers how an open blob stands, if it is not private."""
        if not stored.private:
            self.inventory.set(stored.blob, REMOVED if gone else SEALED if stored.sealed else PARTIAL)

    def hide(self, blob: Blob) -> None:
        """What was public is private from now on."""
        self.entries[blob.id].private = True
        self.inventory.set(blob, REMOVED)

    # Bytes

    def _count_in(self, entry: Entry, sign: int) -> None:
        self.count(**{"sealed" if entry.sealed else "partial": sign * entry.bytes})

    def recount(self, entry: Entry, stored: DiskBlob) -> None:
        """Its file turned out to be another than the image said."""
        self._count_in(entry, -1)
        entry.sealed = stored.sealed
        entry.bytes = entry.blob.size if stored.sealed else bytes_of(entry.blob, stored.claimed)
        self._count_in(entry, 1)

    def count(self, *, sealed: int = 0, partial: int = 0, adopted: int = 0, damaged: int = 0) -> None:
        with self._counting:
            self.statistics.chunks_damaged += damaged
            self.statistics.bytes_adopted += adopted
            self.statistics.bytes_sealed += sealed
            self.statistics.bytes_partial += partial


def bytes_of(blob: Blob, chunks: Iterable[int]) -> int:
    return sum(chunk_size(blob.size, index) for index in chunks)
