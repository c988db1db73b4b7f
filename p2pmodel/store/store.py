"""The store on disk (port: delivery/ports.py `Store`): layout, index, inventory, trees and open blobs, put together.

The files say which blobs are here and whether they are sealed; what this module keeps in memory is an image of them, made
at start from directory listings. One lock guards it; nothing that takes long runs under it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import structlog

from p2pmodel.content import Blob, BlobId, FileEntry, Hub, Repo, Seal, Snapshot, chunk_count, chunk_size
from p2pmodel.delivery.ports import BlobState
from p2pmodel.errors import StoreError, StoreFullError
from p2pmodel.limits import USES_PENDING_MAX
from p2pmodel.store.adoption import Adopted, Candidate
from p2pmodel.store.adoptions import Adoptions
from p2pmodel.store.blobs import DiskBlob
from p2pmodel.store.disk import Disk
from p2pmodel.store.eviction import Idle, victims
from p2pmodel.store.export import export
from p2pmodel.store.freshness import Freshness
from p2pmodel.store.index import Index
from p2pmodel.store.inventory import PARTIAL, REMOVED, SEALED, Inventory
from p2pmodel.store.layout import Layout, own_directory
from p2pmodel.store.recent import RecentSnapshots
from p2pmodel.store.spool import FileSpool
from p2pmodel.store.stock import open_blob, take_stock
from p2pmodel.store.tree import CacheTree, Leaf
from p2pmodel.wire.messages import InventoryEntry

log = structlog.get_logger()


@dataclass(slots=True)
class StoreStatistics:
    """Bytes are those of chunks that are here; a partial file is sparse."""

    quota_bytes: int = 0
    bytes_sealed: int = 0
    bytes_partial: int = 0
    bytes_adopted: int = 0  # of those sealed: files of somebody's cache, which take no room of ours
    chunks_committed: int = 0
    chunks_damaged: int = 0
    blobs_evicted: int = 0


@dataclass(slots=True)
class _Entry:
    """What is known of a blob without opening it."""

    blob: Blob
    private: bool
    sealed: bool
    held: int  # chunks, while nobody has it open
    bytes: int  # of those
    used: int  # unix seconds
    fresh: Freshness
    live: DiskBlob | None = None

    @property
    def state(self) -> BlobState:
        held = len(self.live.held | self.live.claimed) if self.live else self.held
        return BlobState(self.blob, held, self.sealed, self.private)


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
        self.statistics = StoreStatistics(quota_bytes=quota_bytes)
        self._min_free_bytes = min_free_bytes
        self._clock = clock
        self._disk = disk or Disk(fsync=fsync)
        self._lock = threading.RLock()
        self._count_lock = threading.Lock()  # innermost: guards the two byte counts
        self._recent = RecentSnapshots()
        self._snapshot_lock = threading.Lock()
        self._inventory = Inventory()
        self._entries: dict[BlobId, _Entry] = {}
        self._uses: dict[BlobId, int] = {}  # newer than the index knows
        with ExitStack() as undo:
            self.layout = Layout(state_dir)
            undo.callback(self.layout.unlock)
            self._index = Index(self.layout.index, fsync=fsync)
            undo.callback(self._index.close)
            self._trees = {
                (hub, shelf.private): CacheTree(shelf.tree(hub), shelf.partials, mode=shelf.directory_mode)
                for hub in Hub
                for shelf in self.layout.shelves()
            }
            self._adoptions = Adoptions(self._index, self.layout, self._disk)
            self._aliases = self._index.aliases()
            for changed in self._adoptions.take_stock():
                self._unlink_from_trees(changed)
                self._aliases = {alias: name for alias, name in self._aliases.items() if name != changed}
            self._take_stock()
            self._undo = undo.pop_all()

    def close(self) -> None:
        """Blobs still open are recorded and shut; their users can do no more with them."""
        with self._undo:
            for stored in [entry.live for entry in self._entries.values() if entry.live is not None]:
                stored.users = 1
                stored.close()
            self._index.touch(self._uses)

    # Blobs

    def find(self, blob: BlobId) -> BlobState | None:
        with self._lock:
            entry = self._entry(blob)
            return entry.state if entry else None

    def blobs(self) -> Sequence[BlobState]:
        with self._lock:
            return [entry.state for entry in self._entries.values()]

    def open(self, blob: Blob, *, private: bool) -> DiskBlob:
        with self._lock:
            entry = self._load(blob, private=private)
            stored = entry.live
            if stored is None:
                raise AssertionError("a loaded entry is open")
            stored.users += 1
            self._use(entry)
        if stored.private and not private:
            try:
                stored.publish(self.layout.public)
            except StoreError:
                stored.close()
                raise
        return stored

    def spool(self, size: int) -> FileSpool:
        self.reserve(size)
        try:
            fd = self._disk.nameless(self.layout.private.partials)
        except StoreError:
            self.give_back(size)
            raise
        return FileSpool(self._disk, fd, partial(self.give_back, size))

    def remove(self, blob: BlobId) -> None:
        """Delete a blob and our links to it. Raises StoreError while it is in use."""
        with self._lock:
            entry = self._entry(blob)
            if entry is None:
                return
            if entry.live is not None:
                raise StoreError(f"{entry.blob.id} is in use.", next_step="Try again when its transfers are done.")
            self._remove(entry)

    def used(self, blob: BlobId) -> int | None:
        """When it was last opened, in unix seconds."""
        with self._lock:
            entry = self._entry(blob)
            return entry.used if entry else None

    def make_room(self) -> None:
        """Evict until quota and free space are as the settings want them. Raises StoreFullError if that cannot be."""
        with self._lock:
            self._make_room(0)

    # Files of somebody's cache (adoption.py)

    def adopted(self, blob: BlobId) -> bool:
        """Whether removing it would free nothing."""
        with self._lock:
            return self._adoptions.find(blob) is not None

    def candidate(self, path: Path, name: BlobId | None) -> Candidate | None:
        """A file to be hashed and then adopted; None if it is here already. Raises StoreError."""
        candidate = Candidate(self._disk, path, name)
        with self._lock:
            entry = self._entry(name) if name else None
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
                entry = self._entry(name) if name else None
                if entry is not None and (entry.sealed or entry.live is not None):
                    return False
                if entry is not None:
                    self._remove(entry)
            own_directory(shelf.sealed(blob.id).parent, shelf.directory_mode)
            adopted = replace(candidate.found, linked=candidate.link(shelf, blob.id))
            self._adoptions.keep(blob.id, adopted)
            self._index.put_blob(blob, candidate.digests, seal, alias, used=int(self._clock()))
            if alias is not None:
                self._aliases[alias] = blob.id
            fresh = Freshness(chunk_count(blob.size))
            fresh.settle(shelf.sealed(blob.id) if adopted.linked else adopted.path)
            for index in range(chunk_count(blob.size)):
                fresh.add(index)
            self._image(blob, fresh, private=True)
        return True

    def _image(self, blob: Blob, fresh: Freshness, *, private: bool) -> None:
        """Of an adopted blob."""
        used = int(self._clock())
        self._entries[blob.id] = _Entry(
            blob, private, sealed=True, held=chunk_count(blob.size), bytes=blob.size, used=used, fresh=fresh
        )
        self._count(sealed=blob.size, adopted=blob.size)

    # What peers may know

    def inventory(self) -> tuple[int, bytes]:
        with self._lock:
            return self._inventory.sequence, self._inventory.digest

    def inventory_since(self, sequence: int) -> Sequence[InventoryEntry] | None:
        with self._lock:
            return self._inventory.since(sequence)

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
        for hub, private in self._trees:
            if hub is repo.hub:
                self._trees[hub, private].remove(repo, commit)

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
        private = private or not snapshot.public
        tree = self._trees[snapshot.repo.hub, private]
        revisions = self._index.revisions(snapshot.repo, snapshot.commit)
        return tree.materialise(snapshot.repo, snapshot.commit, revisions, leaves)

    def export(self, files: Sequence[FileEntry], target: Path) -> None:
        """Hand files out into a directory: hard link, else reflink, else copy. Raises StoreError for one that is not sealed
        here, or whose place is taken by another file."""
        leaves, _ = self._leaves(files)
        if len(leaves) < len(files):
            missing = {file.path for file in files} - {leaf.path for leaf in leaves}
            raise StoreError(f"{min(missing)} is not here.", next_step="Fetch it first.")
        export(leaves, target)

    # For open blobs (blobs.py `Keeper`)

    def reserve(self, size: int) -> None:
        if self.statistics.quota_bytes or self._min_free_bytes:
            with self._lock:
                self._make_room(size)
        self._count(partial=size)

    def give_back(self, size: int) -> None:
        self._count(partial=-size)

    def committed(self, chunks: int) -> None:
        with self._count_lock:
            self.statistics.chunks_committed += chunks

    def twin(self, stored: DiskBlob, alias: BlobId) -> DiskBlob | None:
        with self._lock:
            entry = self._entry(alias)
            if entry is None or not entry.sealed or entry.live is stored or entry.blob.size != stored.blob.size:
                return None
            blob = entry.blob
        twin = self.open(blob, private=stored.private)
        if twin.sealed:
            return twin
        twin.close()
        return None

    def put_manifest(self, stored: DiskBlob, digests: bytes, seal: Seal | None, alias: BlobId | None) -> None:
        self._index.put_blob(stored.blob, digests, seal, alias, used=int(self._clock()))
        if alias is not None:
            with self._lock:
                self._aliases[alias] = stored.blob.id

    def sealed(self, stored: DiskBlob, alias: BlobId | None) -> None:
        self._count(partial=-stored.blob.size, sealed=stored.blob.size)
        with self._lock:
            self._entries[stored.blob.id].sealed = True
            self._announce(stored)
            half = self._entries.get(alias) if alias else None
            if half is not None and half.live is None and not half.sealed:
                self._remove(half)

    def joined(self, stored: DiskBlob, twin: DiskBlob) -> None:
        self._count(partial=-stored.blob.size)
        self._index.put_alias(stored.blob.id, twin.blob.id)
        with self._lock:
            del self._entries[stored.blob.id]
            self._aliases[stored.blob.id] = twin.blob.id
            self._announce(stored, gone=True)
        stored.private = twin.private

    def unsealed(self, stored: DiskBlob) -> None:
        with self._lock:
            self.statistics.chunks_damaged += len(stored.held.missing())
            entry = self._entries.get(stored.blob.id)
            if entry is None or entry.live is not stored:
                return
            entry.sealed = False
            self._count(partial=stored.blob.size, sealed=-stored.blob.size)
            self._announce(stored)
            self._unlink_from_trees(stored.blob.id)

    def parted(self, stored: DiskBlob) -> None:
        with self._lock:
            self._let_go(stored.blob)

    def published(self, stored: DiskBlob) -> None:
        with self._lock:
            self._adoptions.publish(stored.blob.id)
            self._entries[stored.blob.id].private = False
            self._announce(stored)

    def released(self, stored: DiskBlob) -> None:
        with self._lock:
            stored.users -= 1
            if stored.users:
                return
            entry = self._entries.get(stored.blob.id)
            if entry is not None and entry.live is stored:
                self._leave(entry, stored)
            stored.shut()

    # The image in memory; all of it under the lock

    def _take_stock(self) -> None:
        known = self._index.blobs()
        states: dict[Blob, int] = {}
        for found in take_stock(self.layout, self._disk, known):
            blob = found.blob
            used = known[blob.id].used if blob.id in known else int(self._clock())
            fresh = Freshness(chunk_count(blob.size))
            here = blob.size if found.sealed else _bytes(blob, found.chunks)
            self._entries[blob.id] = _Entry(blob, found.private, found.sealed, len(found.chunks), here, used, fresh)
            self._count(**{"sealed" if found.sealed else "partial": here})
            if self._adoptions.find(blob.id):
                self._count(adopted=blob.size)
            if not found.private:
                states[blob] = SEALED if found.sealed else PARTIAL
        for blob, private in self._adoptions.lying_elsewhere():
            if blob.id not in self._entries:
                self._image(blob, Freshness(chunk_count(blob.size)), private=private)
                if not private:
                    states[blob] = SEALED
        self._inventory.begin_with(states)

    def _entry(self, blob: BlobId) -> _Entry | None:
        return self._entries.get(blob) or self._entries.get(self._aliases.get(blob, blob))

    def _load(self, blob: Blob, *, private: bool) -> _Entry:
        """The entry of a blob, with its files open: found, or begun."""
        entry = self._entry(blob.id)
        if entry is not None and entry.blob.size != blob.size:
            self._drop_other_size(entry, blob)
            entry = None
        if entry is None:
            entry = _Entry(blob, private, sealed=False, held=0, bytes=0, used=0, fresh=Freshness(chunk_count(blob.size)))
        if entry.live is None:
            shelf, known = self.layout.shelf(private=entry.private), self._index.digests(entry.blob.id)
            adopted = self._adoptions.find(entry.blob.id)
            stored = open_blob(self, self._disk, shelf, entry.blob, known=known, fresh=entry.fresh, adopted=adopted)
            if stored.sealed != entry.sealed:  # its file was removed behind our back, or a seal failed at its last step
                self._recount(entry, stored)
            entry.live = self._entries.setdefault(entry.blob.id, entry).live = stored
            self._announce(stored)
            stored.mend()
        return entry

    def _recount(self, entry: _Entry, stored: DiskBlob) -> None:
        self._count(**{"sealed" if entry.sealed else "partial": -entry.bytes})
        entry.sealed = stored.sealed
        if not stored.sealed:
            self._let_go(entry.blob)
        self._count(**{"sealed": entry.blob.size} if entry.sealed else {"partial": _bytes(entry.blob, stored.claimed)})

    def _drop_other_size(self, entry: _Entry, blob: Blob) -> None:
        """Two sizes for one name: a sealed blob knows its own; a partial one may have been begun on a wrong word."""
        if entry.sealed or entry.live is not None:
            raise StoreError(f"{blob.id} has {entry.blob.size} bytes here, not {blob.size}: a hub states a wrong size.")
        self._remove(entry)

    def _leave(self, entry: _Entry, stored: DiskBlob) -> None:
        here, lost = stored.held | stored.claimed, stored.unrecorded
        entry.live = None
        entry.held = len(here - lost)
        entry.bytes = entry.blob.size if entry.sealed else _bytes(entry.blob, here - lost)
        self._count(partial=-_bytes(entry.blob, lost))
        if here or stored.sealed:
            return
        del self._entries[entry.blob.id]
        self._announce(stored, gone=True)
        try:
            stored.remove_partial()
        except StoreError as error:
            log.warning("partial_not_removed", blob=str(entry.blob.id), reason=str(error))

    def _remove(self, entry: _Entry) -> None:
        blob, shelf = entry.blob, self.layout.shelf(private=entry.private)
        for path in (shelf.sealed(blob.id), shelf.partial(blob.id), shelf.record(blob.id)):
            self._disk.unlink(path)
        self._unlink_from_trees(blob.id)
        self._let_go(blob)
        self._index.forget_blob(blob.id)
        del self._entries[blob.id]
        self._aliases = {alias: name for alias, name in self._aliases.items() if name != blob.id}
        self._count(**{"sealed" if entry.sealed else "partial": -entry.bytes})
        if not entry.private:
            self._inventory.set(blob, REMOVED)

    def _let_go(self, blob: Blob) -> None:
        """If it was adopted, it is no more."""
        if self._adoptions.forget(blob.id):
            self._count(adopted=-blob.size)

    def _make_room(self, size: int) -> None:
        counts = self.statistics
        here = counts.bytes_sealed - counts.bytes_adopted + counts.bytes_partial
        over = here + size - counts.quota_bytes if counts.quota_bytes else 0
        short = self._min_free_bytes + size - self._disk.free(self.layout.root) if self._min_free_bytes else 0
        if max(over, short) <= 0:
            return
        pinned = self._pinned()
        idle = [
            entry
            for entry in self._entries.values()
            if entry.sealed and entry.live is None and entry.blob.id not in pinned and not self._adoptions.find(entry.blob.id)
        ]
        chosen = victims((Idle(entry.blob, entry.used) for entry in idle), max(over, short))
        if not chosen:
            why = "The store's quota is used up" if over > 0 else "The device has less free than store.min_free"
            raise StoreFullError(
                f"{why}, and nothing may be evicted.", next_step="Raise the setting, or remove or unpin models."
            )
        for blob in chosen:
            log.info("blob_evicted", blob=str(blob.id), bytes=blob.size)
            self._remove(self._entries[blob.id])
            counts.blobs_evicted += 1

    def _pinned(self) -> set[BlobId]:
        snapshots = [self._index.snapshot(repo, commit) for repo, commit in self._index.pins()]
        names = {file.blob.id for snapshot in snapshots if snapshot for file in snapshot.files if file.blob}
        return names | {self._aliases[name] for name in names if name in self._aliases}

    def _leaves(self, files: Sequence[FileEntry]) -> tuple[list[Leaf], bool]:
        """Those of the files that are sealed here, and whether one of them is private."""
        leaves, private = [], False
        with self._lock:
            for file in files:
                entry = self._entry(file.blob.id) if file.blob else None
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

    def _unlink_from_trees(self, blob: BlobId) -> None:
        names = [blob.hex, *(alias.hex for alias, name in self._aliases.items() if name == blob)]
        for tree in self._trees.values():
            tree.forget(names)

    def _announce(self, stored: DiskBlob, *, gone: bool = False) -> None:
        if not stored.private:
            self._inventory.set(stored.blob, REMOVED if gone else SEALED if stored.sealed else PARTIAL)

    def _use(self, entry: _Entry) -> None:
        entry.used = self._uses[entry.blob.id] = int(self._clock())
        if len(self._uses) >= USES_PENDING_MAX:
            with suppress(StoreError):  # a full disk: what is here is served all the same
                self._index.touch(self._uses)
            self._uses.clear()

    def _count(self, *, sealed: int = 0, partial: int = 0, adopted: int = 0) -> None:
        with self._count_lock:
            self.statistics.bytes_adopted += adopted
            self.statistics.bytes_sealed += sealed
            self.statistics.bytes_partial += partial


def _bytes(blob: Blob, chunks: Iterable[int]) -> int:
    return sum(chunk_size(blob.size, index) for index in chunks)
