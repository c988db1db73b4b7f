"""What lies on disk: the listing at start, and the opening of one blob. The files decide; a crash may have left half a move
or half a seal behind, which is finished or cleared away here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from p2pmodel.content import Blob, BlobId, ChunkMap, Seal, chunk_count
from p2pmodel.store import record
from p2pmodel.store.adoption import Adopted, is_somebodys
from p2pmodel.store.blobs import DiskBlob, Keeper
from p2pmodel.store.disk import Disk
from p2pmodel.store.freshness import Freshness
from p2pmodel.store.index import Known
from p2pmodel.store.journal import Journal
from p2pmodel.store.layout import Layout, Shelf


@dataclass(frozen=True, slots=True)
class Found:
    blob: Blob
    private: bool
    sealed: bool
    chunks: ChunkMap  # of a partial blob: those recorded


def take_stock(layout: Layout, disk: Disk, known: Mapping[BlobId, Known]) -> Iterator[Found]:
    """Every blob once. Names and sizes only: nothing is hashed, so a start takes no longer than the listings."""
    seen: set[BlobId] = set()
    for shelf in layout.shelves():
        for blob, file in shelf.sealed_blobs():
            if blob not in seen:
                seen.add(blob)
                size = known[blob].size if blob in known else file.stat(follow_symlinks=False).st_size
                with suppress(ValueError):  # larger than any blob: not ours
                    whole = Blob(blob, size)
                    yield Found(whole, shelf.private, sealed=True, chunks=ChunkMap.full(chunk_count(size)))
    for shelf in layout.shelves():
        for blob in shelf.partial_blobs():
            found = None if blob in seen else _partial(layout, shelf, disk, blob)
            if found is not None:
                seen.add(blob)
                yield found
            elif not _elsewhere(layout, shelf, blob):
                for path in (shelf.record(blob), shelf.words(blob), shelf.partial(blob)):
                    disk.unlink(path)


def _partial(layout: Layout, shelf: Shelf, disk: Disk, blob: BlobId) -> Found | None:
    recorded = record.read(shelf.record(blob))
    if recorded is None or recorded.blob.id != blob:
        return None
    other = layout.shelf(private=not shelf.private).partial(blob)
    if not shelf.partial(blob).exists():
        if not other.exists():
            return None
        disk.rename(other, shelf.partial(blob))  # it was being made public, and its record went first
    chunks = ChunkMap(chunk_count(recorded.blob.size), recorded.claims)
    return Found(recorded.blob, shelf.private, sealed=False, chunks=chunks)


def _elsewhere(layout: Layout, shelf: Shelf, blob: BlobId) -> bool:
    """Whether the other shelf's listing is still to come and may want this file."""
    return not shelf.private and layout.private.record(blob).exists()


def open_blob(
    keeper: Keeper,
    disk: Disk,
    shelf: Shelf,
    blob: Blob,
    *,
    known: tuple[bytes, Seal | None] | None,
    fresh: Freshness,
    adopted: Adopted | None = None,
) -> DiskBlob:
    """Open what is there, sealed or partial, or begin a partial file. `known` are digests that the index says are proven."""
    path, sealed = shelf.sealed(blob.id) if adopted is None or adopted.linked else adopted.path, True
    somebodys = False
    new = False
    try:
        fd = _open_sealed(disk, path, adopted)
        somebodys = adopted is not None or is_somebodys(os.fstat(fd))
    except FileNotFoundError:
        path, sealed = shelf.partial(blob.id), False
        fd, new = _open_partial(disk, shelf, blob)
    journal = Journal(disk, shelf, blob, goes_on=not (sealed or new))
    stored = DiskBlob(
        keeper, disk, shelf, blob, path=path, fd=fd, journal=journal, fresh=fresh, sealed=sealed, adopted=somebodys
    )
    stored.load(known, journal)
    return stored


def _open_sealed(disk: Disk, path: Path, adopted: Adopted | None) -> int:
    """Raises FileNotFoundError as well where another file lies in the place of one that was adopted."""
    fd = disk.open(path, writable=False)
    if adopted is not None and not adopted.linked and not adopted.unchanged(os.fstat(fd)):
        os.close(fd)
        raise FileNotFoundError(path)
    return fd


def _open_partial(disk: Disk, shelf: Shelf, blob: Blob) -> tuple[int, bool]:
    """The file, and whether it is new."""
    path = shelf.partial(blob.id)
    try:
        path.chmod(0o600)  # read-only if a crash came between the seal's steps
        fd = disk.open(path, writable=True)
    except FileNotFoundError:
        return disk.create(path, blob.size), True
    if os.fstat(fd).st_size != blob.size:
        disk.resize(fd, blob.size)
    return fd, False
