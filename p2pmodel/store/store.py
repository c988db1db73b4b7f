"""The store on disk (port: delivery/ports `Store`): its verbs, over layout, index, image, trees and open blobs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from p2pmodel.content import Blob, BlobId, FileEntry, Repo, Seal, Snapshot, chunk_count
from p2pmodel.delivery.ports import BlobState
from p2pmodel.errors import StoreError
from p2pmodel.store import piece_file
from p2pmodel.store.adoption import Adopted, Candidate
from p2pmodel.store.adoptions import Adoptions
from p2pmodel.store.blobs import DiskBlob
from p2pmodel.store.disk import Disk
from p2pmodel.store.export import export
from p2pmodel.store.freshness import Freshness
from p2pmodel.store.image import Entry, Image
from p2pmodel.store.index import Index
from p2pmodel.store.keeping import Keeping
from p2pmodel.store.layout import Layout, own_directory
from p2pmodel.store.recent import RecentSnapshots
from p2pmodel.store.spool import FileSpool
from p2pmodel.store.tree import Leaf
from p2pmodel.store.trees import Trees
from p2pmodel.wire.packed import InventoryEntry


class Store:
    """Verbs block and may be called from any thread. `fsync` off is for tests and throw-away nodes: a crash of the machine
    then loses what it likes. Errors of the constructor: StoreBusyError, StoreTooNewError, StoreDamagedError, StoreError."""

    def __init__(
        self,
        state_dir: Path,
        *,
        fsync: bool = True,
        quota_bytes: int = 0,
        min_free_bytes: int = 0,
        disk: Disk | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._disk = disk or Disk(fsync=fsync)
        self._recent = RecentSnapshots()
        self._snapshot_lock = threading.Lock()
        with ExitStack() as undo:
            self.layout = Layout(state_dir)
            undo.callback(self.layout.unlock)
            self._index = Index(self.layout.index, fsync=fsync)
            undo.callback(self._index.close)
            self._trees = Trees(self.layout, self._disk)
            self._adoptions = Adoptions(self._index, self.layout, self._disk)
            self._image = Image(self._index.aliases(), quota_bytes=quota_bytes)
            self._keeping = Keeping(
                self.layout,
                self._disk,
                self._index,
                self._image,
                self._adoptions,
                self._trees,
                min_free_bytes=min_free_bytes,
                clock=clock,
            )
            self._undo = undo.pop_all()
        self._lock = self._keeping.lock
        self.statistics = self._image.statistics

    def close(self) -> None:
        """Blobs still open are recorded and shut; their users can do no more with them."""
        with self._undo:
            self._keeping.close()

    # Blobs

    def find(self, blob: BlobId) -> BlobState | None:
        with self._lock:
            entry = self._image.find(blob)
            return entry.state if entry else None

    def blobs(self) -> Sequence[BlobState]:
        with self._lock:
            return [entry.state for entry in self._image.entries.values()]

    def open(self, blob: Blob, *, private: bool) -> DiskBlob:
        return self._keeping.open(blob, private=private)

    def spool(self, size: int) -> FileSpool:
        self._keeping.reserve(size)
        try:
            fd = self._disk.nameless(self.layout.private.partials)
        except StoreError:
            self._keeping.give_back(size)
            raise
        return FileSpool(self._disk, fd, size, self._keeping)

    def remove(self, blob: BlobId) -> None:
        """Delete a blob and our links to it. Raises StoreError while it is in use."""
        with self._lock:
            entry = self._image.find(blob)
            if entry is None:
                return
            if entry.in_use:
                raise StoreError(f"{entry.blob.id} is in use.", next_step="Try again when its transfers are done.")
            self._keeping.remove(entry)

    def used(self, blob: BlobId) -> int | None:
        """When it was last opened, in unix seconds."""
        with self._lock:
            entry = self._image.find(blob)
            return entry.used if entry else None

    def make_room(self) -> None:
        """Evict until quota and free space are as the settings want them. Raises StoreFullError if that cannot be."""
        self._keeping.make_room(0)

    def check_room(self, size: int, keep: Collection[BlobId]) -> None:
        self._keeping.check_room(size, keep)

    # Files of somebody's cache (adoption.py)

    def adopted(self, blob: BlobId) -> bool:
        """Whether removing it would free nothing."""
        with self._lock:
            return self._adoptions.find(blob) is not None

    def candidate(self, path: Path, name: BlobId | None) -> Candidate | None:
        """A file to be hashed and then adopted; None if it is here already. Raises StoreError."""
        candidate = Candidate(self._disk, path, name)
        with self._lock:
            entry = self._image.find(name) if name else None
            here = entry is not None and entry.sealed and entry.blob.size == candidate.found.size
            here = here or self._adoptions.blob_of(candidate.found) is not None
        if here:
            candidate.close()
            return None
        return candidate

    def adopted_as(self, path: Path) -> Blob | None:
        """The blob that this very file was adopted as."""
        try:
            found = Adopted.of(path, path.lstat())
        except OSError:
            return None
        with self._lock:
            return self._adoptions.blob_of(found)

    def adopt(self, candidate: Candidate, seal: Seal) -> bool:
        """Sealed where it lies, and private; False if the store has the blob already, or is getting it. Raises StoreError."""
        blob, alias = candidate.names()
        shelf = self.layout.private
        with self._lock:
            for name in (blob.id, alias):
                entry = self._image.find(name) if name else None
                if entry is not None and (entry.sealed or entry.in_use):
                    return False
                if entry is not None:
                    self._keeping.remove(entry)
            own_directory(shelf.sealed(blob.id).parent, shelf.directory_mode)
            adopted = replace(candidate.found, linked=candidate.link(shelf, blob.id))
            self._adoptions.keep(blob.id, adopted)
            self._index.put_blob(blob, candidate.digests, seal, alias, used=int(self._clock()))
            if alias is not None:
                self._image.add_alias(alias, blob.id)
            fresh = Freshness(chunk_count(blob.size))
            fresh.settle(shelf.sealed(blob.id) if adopted.linked else adopted.path)
            for index in range(chunk_count(blob.size)):
                fresh.add(index)
            self._image.adopt(Entry.whole(blob, fresh, private=True, used=int(self._clock())))
        return True

    # How files are cut (content/pieces.py)

    def pieces(self, blob: BlobId, first: int, count: int) -> bytes:
        return piece_file.read(self._disk, self.layout.pieces(blob), first, count)

    def keep_pieces(self, blob: BlobId, entries: bytes) -> None:
        with self._lock:
            entry = self._image.find(blob)
        if entry is not None and entry.sealed:
            piece_file.write(self._disk, self.layout.pieces(blob), entries)

    # What peers may know

    def inventory(self) -> tuple[int, bytes]:
        with self._lock:
            return self._image.inventory.sequence, self._image.inventory.digest

    def inventory_since(self, sequence: int) -> Sequence[InventoryEntry] | None:
        with self._lock:
            return self._image.inventory.since(sequence)

    # Snapshots, refs, documents, pins

    def put_snapshot(self, snapshot: Snapshot) -> None:
        with self._snapshot_lock:
            self._index.put_snapshot(snapshot)
            self._recent.keep(snapshot)

    def snapshot(self, repo: Repo, commit: str) -> Snapshot | None:
        if (recent := self._recent.find(repo, commit)) is not None:
            return recent
        with self._snapshot_lock:  # else one that is being replaced could be kept in the place of its successor
            found = self._index.snapshot(repo, commit)
            if found is not None:
                self._recent.keep(found)
            return found

    def snapshots(self) -> Sequence[tuple[Repo, str]]:
        return self._index.snapshots()

    def forget_snapshot(self, repo: Repo, commit: str) -> None:
        """With its revisions, its pin and its directory; the blobs stay."""
        with self._snapshot_lock:
            self._index.forget_snapshot(repo, commit)
            self._recent.forget(repo, commit)
        self._trees.remove(repo, commit)

    def put_ref(self, repo: Repo, revision: str, commit: str) -> None:
        self._index.put_ref(repo, revision, commit)

    def ref(self, repo: Repo, revision: str) -> str | None:
        return self._index.ref(repo, revision)

    def revisions(self, repo: Repo, commit: str) -> Sequence[str]:
        """The branches and tags that the hub last said are this commit."""
        return self._index.revisions(repo, commit)

    def put_document(self, key: str, body: bytes) -> None:
        self._index.put_document(key, body)

    def document(self, key: str) -> bytes | None:
        return self._index.document(key)

    def pin(self, repo: Repo, commit: str) -> None:
        """Keep the blobs of a snapshot from eviction."""
        self._index.pin(repo, commit)

    def unpin(self, repo: Repo, commit: str) -> None:
        self._index.unpin(repo, commit)

    def pins(self) -> Sequence[tuple[Repo, str]]:
        return self._index.pins()

    def materialise(self, snapshot: Snapshot, files: Sequence[FileEntry]) -> Path:
        """In the public tree, unless the snapshot or one of the files is private: then the whole of it is this uid's alone."""
        leaves, private = self._leaves(files)
        revisions = self._index.revisions(snapshot.repo, snapshot.commit)
        return self._trees.materialise(snapshot, revisions, leaves, private=private or not snapshot.public)

    def export(self, files: Sequence[FileEntry], target: Path) -> None:
        """Hand files out into a directory: hard link, else reflink, else copy. Raises StoreError for one that is not sealed
        here, or whose place is taken by another file."""
        leaves, _ = self._leaves(files)
        if len(leaves) < len(files):
            missing = {file.path for file in files} - {leaf.path for leaf in leaves}
            raise StoreError(f"{min(missing)} is not here.", next_step="Fetch it first.")
        export(leaves, target)

    def _leaves(self, files: Sequence[FileEntry]) -> tuple[list[Leaf], bool]:
        """Those of the files that are sealed here, and whether one of them is private."""
        leaves, private = [], False
        with self._lock:
            for file in files:
                entry = self._image.find(file.blob.id) if file.blob else None
                if file.blob is not None and entry is not None and entry.sealed:
                    adopted = self._adoptions.find(entry.blob.id)
                    sealed = self.layout.shelf(private=entry.private).sealed(entry.blob.id)
                    elsewhere = adopted is not None and not adopted.linked
                    path = adopted.path if adopted and elsewhere else sealed
                    leaf = Leaf(
                        file.path, file.blob.id.hex, path, entry.fresh, adopted=adopted is not None, elsewhere=elsewhere
                    )
                    leaves.append(leaf)
                    private = private or entry.private
        return leaves, private
