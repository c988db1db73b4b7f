"""Which blobs are files of somebody's cache, across runs: kept in the index, checked against the files at each start."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import structlog

from p2pmodel.content import Blob, BlobId
from p2pmodel.store.adoption import Adopted
from p2pmodel.store.disk import Disk
from p2pmodel.store.index import Index
from p2pmodel.store.layout import Layout

log = structlog.get_logger()


class Adoptions:
    """Not thread-safe: the store holds its lock."""

    def __init__(self, index: Index, layout: Layout, disk: Disk) -> None:
        self._index = index
        self._layout = layout
        self._disk = disk
        self._by_blob: dict[BlobId, Adopted] = {}
        self._by_file: dict[tuple[int, int], BlobId] = {}  # device and inode

    def take_stock(self) -> list[BlobId]:
        """A file that changed while no daemon ran is not what was adopted: it is let go, and its blobs are returned. One
        that its owner gave up meanwhile is the store's alone, if it was linked."""
        changed = []
        for blob, adopted in self._index.adopted().items():
            ours = next((path for shelf in self._layout.shelves() if (path := shelf.sealed(blob)).exists()), None)
            there = _stat(adopted.path)
            if not adopted.unchanged(_stat(ours) if adopted.linked and ours else there):
                log.info("adopted_file_changed", blob=str(blob))
                changed.append(blob)
                if ours is not None and adopted.linked:
                    self._disk.unlink(ours)
                self._index.forget_blob(blob)
            elif adopted.linked and not adopted.same_file(there):
                self._index.forget_adopted(blob)
            else:
                self._remember(blob, adopted)
        return changed

    def find(self, blob: BlobId) -> Adopted | None:
        return self._by_blob.get(blob)

    def blob_of(self, found: Adopted) -> Blob | None:
        """What this very file was adopted as, unless it has changed since."""
        blob = self._by_file.get((found.device, found.inode))
        return Blob(blob, found.size) if blob is not None and self._by_blob[blob].looks_like(found) else None

    def lying_elsewhere(self) -> Iterator[tuple[Blob, bool]]:
        """Those without a file in the store, and whether they are private."""
        for blob, adopted in self._by_blob.items():
            if not adopted.linked:
                yield Blob(blob, adopted.size), adopted.private

    def keep(self, blob: BlobId, adopted: Adopted) -> None:
        self._index.put_adopted(blob, adopted)
        self._remember(blob, adopted)

    def _remember(self, blob: BlobId, adopted: Adopted) -> None:
        self._by_blob[blob] = adopted
        self._by_file[adopted.device, adopted.inode] = blob

    def publish(self, blob: BlobId) -> None:
        if (adopted := self._by_blob.get(blob)) is not None:
            self.keep(blob, replace(adopted, private=False))

    def forget(self, blob: BlobId) -> bool:
        """Whether it was adopted."""
        adopted = self._by_blob.pop(blob, None)
        if adopted is None:
            return False
        if self._by_file.get((adopted.device, adopted.inode)) == blob:
            del self._by_file[adopted.device, adopted.inode]
        self._index.forget_adopted(blob)
        return True


def _stat(path: Path | None) -> os.stat_result | None:
    try:
        return path.lstat() if path else None
    except OSError:
        return None
