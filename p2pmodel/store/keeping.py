"""Blobs opened, sealed, found damaged, let go and evicted: files, index, cache trees and image moved together.

One lock guards the image, and nothing that takes long runs under it. `Keeping` is the `Keeper` that open blobs report to
(blobs.py); the store's verbs take the same lock.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import Final

import structlog

from p2pmodel.content import Blob, BlobId, Seal, chunk_count
from p2pmodel.errors import StoreError, StoreFullError
from p2pmodel.limits import USES_PENDING_MAX
from p2pmodel.store.adoptions import Adoptions
from p2pmodel.store.blobs import DiskBlob
from p2pmodel.store.disk import Disk
from p2pmodel.store.eviction import Idle, victims
from p2pmodel.store.freshness import Freshness
from p2pmodel.store.image import Entry, Image, bytes_of
from p2pmodel.store.index import Index
from p2pmodel.store.layout import Layout, Shelf
from p2pmodel.store.stock import open_blob, take_stock
from p2pmodel.store.trees import Trees

log = structlog.get_logger()

_SPARE_MAX: Final = 128  # file descriptors; a model of 100 shards stays open as a whole
_SPARE_S: Final = 30.0  # then its file is looked for by its name again: it may have been removed behind our back

#: Why nothing more may come, and what its operator can do.
_QUOTA_USED: Final = "The store's quota is used up", "Raise store.quota"
_LITTLE_FREE: Final = "The device has less free than store.min_free", "Free some space on it, lower store.min_free"


class Keeping:
    """Its public verbs take the lock themselves, but for `remove`; the others want it held. Constructing it takes stock."""

    def __init__(
        self,
        layout: Layout,
        disk: Disk,
        index: Index,
        image: Image,
        adoptions: Adoptions,
        trees: Trees,
        *,
        min_free_bytes: int,
        clock: Callable[[], float],
    ) -> None:
        self.lock = threading.RLock()
        self._layout = layout
        self._disk = disk
        self._index = index
        self._image = image
        self._adoptions = adoptions
        self._trees = trees
        self._min_free_bytes = min_free_bytes
        self._clock = clock
        self._uses: dict[BlobId, int] = {}  # newer than the index knows
        self._spare: OrderedDict[BlobId, float] = OrderedDict()  # open for nobody → since when; the longest so first
        for changed in adoptions.take_stock():
            self._unlink_from_trees(changed)
            image.forget_aliases(changed)
        image.begin_with(self._lying_here())
        for blob, path in layout.piece_files():
            if blob is None or image.find(blob) is None:  # its file was removed behind our back
                disk.unlink(path)

    def _lying_here(self) -> Iterator[Entry]:
        known, seen = self._index.blobs(), set()
        for found in take_stock(self._layout, self._disk, known):
            blob = found.blob
            used = known[blob.id].used if blob.id in known else int(self._clock())
            entry = Entry(blob, found.private, found.sealed, 0, 0, used, Freshness(chunk_count(blob.size)))
            entry.hold(found.chunks)
            if self._adoptions.find(blob.id):
                self._image.count(adopted=blob.size)
            seen.add(blob.id)
            yield entry
        for blob, private in self._adoptions.lying_elsewhere():
            if blob.id not in seen:
                self._image.count(adopted=blob.size)
                yield Entry.whole(blob, Freshness(chunk_count(blob.size)), private=private, used=int(self._clock()))

    def close(self) -> None:
        """Blobs still open are recorded and shut; their users can do no more with them."""
        for stored in [entry.live for entry in self._image.entries.values() if entry.live is not None]:
            stored.users = 1
            stored.close()
        self._index.touch(self._uses)

    # Opening and removing

    def open(self, blob: Blob, *, private: bool) -> DiskBlob:
        with self.lock:
            self._shut_spare(since=self._clock() - _SPARE_S)
            entry = self._load(blob, private=private)
            stored = entry.live
            if stored is None:
                raise AssertionError("a loaded entry is open")
            self._spare.pop(entry.blob.id, None)
            stored.users += 1
            self._use(entry)
        return stored

    def _load(self, blob: Blob, *, private: bool) -> Entry:
        """The entry of a blob, with its files open: found, or begun."""
        entry = self._image.find(blob.id)
        if entry is not None and entry.blob.size != blob.size:
            self._drop_other_size(entry, blob)
            entry = None
        if entry is None:
            entry = Entry.begun(blob, private=private)
        if entry.live is None:
            shelf, known = self._layout.shelf(private=entry.private), self._index.digests(entry.blob.id)
            adopted = self._adoptions.find(entry.blob.id)
            stored = open_blob(self, self._disk, shelf, entry.blob, known=known, fresh=entry.fresh, adopted=adopted)
            if stored.sealed != entry.sealed:  # its file was removed behind our back, or a seal failed at its last step
                if not stored.sealed:
                    self._let_go(entry.blob)
                self._image.recount(entry, stored)
            entry.live = self._image.entries.setdefault(entry.blob.id, entry).live = stored
            self._image.announce(stored)
            stored.mend()
        return entry

    def _drop_other_size(self, entry: Entry, blob: Blob) -> None:
        """Two sizes for one name: a sealed blob knows its own; a partial one may have been begun on a wrong word."""
        if entry.sealed or entry.in_use:
            raise StoreError(f"{blob.id} has {entry.blob.size} bytes here, not {blob.size}: a hub states a wrong size.")
        self.remove(entry)

    def _use(self, entry: Entry) -> None:
        entry.used = self._uses[entry.blob.id] = int(self._clock())
        if len(self._uses) >= USES_PENDING_MAX:
            with suppress(StoreError):  # a full disk: what is here is served all the same
                self._index.touch(self._uses)
            self._uses.clear()

    def remove(self, entry: Entry) -> None:
        """A blob that nobody uses, and our links to it. Under the lock."""
        self._shut(entry)
        blob, shelf = entry.blob, self._layout.shelf(private=entry.private)
        beside = shelf.record(blob.id), shelf.words(blob.id), self._layout.pieces(blob.id)
        for path in (shelf.sealed(blob.id), shelf.partial(blob.id), *beside):
            self._disk.unlink(path)
        self._unlink_from_trees(blob.id)
        self._let_go(blob)
        self._index.forget_blob(blob.id)
        self._image.remove(entry)

    def _let_go(self, blob: Blob) -> None:
        """If it was adopted, it is no more."""
        if self._adoptions.forget(blob.id):
            self._image.count(adopted=-blob.size)

    def _unlink_from_trees(self, blob: BlobId) -> None:
        self._trees.forget([name.hex for name in self._image.names(blob)])

    # Room

    def make_room(self, size: int) -> None:
        """Evict until `size` more bytes may come. Raises StoreFullError if that cannot be."""
        with self.lock:
            counts = self._image.statistics
            over, short = self._lacking(size)
            if max(over, short) <= 0:
                return
            chosen = victims(self._idle(), max(over, short))
            if not chosen:
                why, what = _QUOTA_USED if over >= short else _LITTLE_FREE
                raise StoreFullError(f"{why}, and nothing may be evicted.", next_step=f"{what}, or remove or unpin models.")
            for blob in chosen:
                log.info("blob_evicted", blob=str(blob.id), bytes=blob.size)
                self.remove(self._image.entries[blob.id])
                counts.blobs_evicted += 1

    def check_room(self, size: int, keep: Collection[BlobId]) -> None:
        """Raises StoreFullError if `size` more bytes cannot come beside `keep`, whatever else is evicted. Evicts nothing: who
        wants more than there can ever be room for shall not cost the others first."""
        with self.lock:
            over, short = self._lacking(size)
            if max(over, short) <= 0:
                return
            kept = self._pinned() | {self._image.name(name) for name in keep}
            sizes = [entry.blob.size for blob, entry in self._image.entries.items() if self._may_go(blob, entry, kept)]
        if sum(sizes) < max(over, short):
            why, what = _QUOTA_USED if over >= short else _LITTLE_FREE
            more = f" with {size / 1e6:,.0f} MB more" if size else ""
            raise StoreFullError(f"{why}{more}, whatever else is evicted.", next_step=f"{what}, or remove or unpin models.")

    def _lacking(self, size: int) -> tuple[int, int]:
        """By how much `size` more bytes would be over the quota, and short of free space."""
        counts = self._image.statistics
        here = counts.bytes_sealed - counts.bytes_adopted + counts.bytes_partial
        over = here + size - counts.quota_bytes if counts.quota_bytes else 0
        short = self._min_free_bytes + size - self._disk.free(self._layout.root) if self._min_free_bytes else 0
        return over, short

    def _idle(self) -> list[Idle]:
        pinned = self._pinned()
        return [
            Idle(entry.blob, entry.used)
            for blob, entry in self._image.entries.items()
            if not entry.in_use and self._may_go(blob, entry, pinned)
        ]

    def _may_go(self, blob: BlobId, entry: Entry, kept: Collection[BlobId]) -> bool:
        """Once nobody reads it."""
        return entry.sealed and blob not in kept and not self._adoptions.find(blob)

    def _pinned(self) -> set[BlobId]:
        snapshots = [self._index.snapshot(repo, commit) for repo, commit in self._index.pins()]
        names = {file.blob.id for snapshot in snapshots if snapshot for file in snapshot.files if file.blob}
        return names | {self._image.name(name) for name in names}

    # The `Keeper` of open blobs

    def reserve(self, size: int) -> None:
        if self._image.statistics.quota_bytes or self._min_free_bytes:
            self.make_room(size)
        self._image.count(partial=size)

    def give_back(self, size: int) -> None:
        self._image.count(partial=-size)

    def twin(self, stored: DiskBlob, alias: BlobId) -> DiskBlob | None:
        with self.lock:
            entry = self._image.find(alias)
            if entry is None or not entry.sealed or entry.live is stored or entry.blob.size != stored.blob.size:
                return None
            blob = entry.blob
        twin = self.open(blob, private=stored.private)
        try:
            if twin.sealed and not stored.private:  # all of these bytes have come as everybody's, under their other name
                twin.publish()
        except StoreError:
            twin.close()
            raise
        if twin.sealed:
            return twin
        twin.close()
        return None

    def put_manifest(self, stored: DiskBlob, digests: bytes, seal: Seal | None, alias: BlobId | None) -> None:
        self._index.put_blob(stored.blob, digests, seal, alias, used=int(self._clock()))
        if alias is not None:
            with self.lock:
                self._image.add_alias(alias, stored.blob.id)

    def sealed(self, stored: DiskBlob, alias: BlobId | None) -> None:
        self._image.count(partial=-stored.blob.size, sealed=stored.blob.size)
        with self.lock:
            self._image.entries[stored.blob.id].sealed = True
            self._image.announce(stored)
            half = self._image.entries.get(alias) if alias else None
            if half is not None and not half.in_use and not half.sealed:
                self.remove(half)

    def joined(self, stored: DiskBlob, twin: DiskBlob) -> None:
        self._image.count(partial=-stored.blob.size)
        self._index.put_alias(stored.blob.id, twin.blob.id)
        with self.lock:
            del self._image.entries[stored.blob.id]
            self._image.add_alias(stored.blob.id, twin.blob.id)
            self._image.announce(stored, gone=True)
        stored.private = twin.private

    def unsealed(self, stored: DiskBlob) -> None:
        with self.lock:
            entry = self._image.entries.get(stored.blob.id)
            if entry is None or entry.live is not stored:
                return
            entry.sealed = False
            self._image.count(partial=stored.blob.size, sealed=-stored.blob.size)
            self._image.announce(stored)
            self._unlink_from_trees(stored.blob.id)

    def damaged(self, chunks: int) -> None:
        self._image.count(damaged=chunks)

    def parted(self, stored: DiskBlob) -> None:
        with self.lock:
            self._let_go(stored.blob)

    def shelf(self, *, private: bool) -> Shelf:
        return self._layout.shelf(private=private)

    def published(self, stored: DiskBlob) -> None:
        with self.lock:
            self._adoptions.publish(stored.blob.id)
            self._image.entries[stored.blob.id].private = False
            self._image.announce(stored)

    def withdrawn(self, stored: DiskBlob) -> None:
        with self.lock:
            self._image.hide(stored.blob)

    def released(self, stored: DiskBlob, *, keep_open: bool) -> None:
        with self.lock:
            stored.users -= 1
            if stored.users:
                return
            entry = self._image.entries.get(stored.blob.id)
            if entry is None or entry.live is not stored:
                stored.shut()
            elif keep_open and (stored.held or stored.claimed):
                self._spare[entry.blob.id] = self._clock()
                if len(self._spare) > _SPARE_MAX:
                    self._shut(self._image.entries[next(iter(self._spare))])
            else:
                self._shut(entry)

    def _shut_spare(self, *, since: float) -> None:
        """What nobody has used since then."""
        while self._spare and next(iter(self._spare.values())) <= since:
            self._shut(self._image.entries[next(iter(self._spare))])

    def _shut(self, entry: Entry) -> None:
        """One that nobody uses."""
        self._spare.pop(entry.blob.id, None)
        if (stored := entry.live) is not None:
            self._leave(entry, stored)
            stored.shut()

    def _leave(self, entry: Entry, stored: DiskBlob) -> None:
        here, lost = stored.held | stored.claimed, stored.unrecorded
        entry.live = None
        entry.hold(here - lost)
        self._image.count(partial=-bytes_of(entry.blob, lost))
        if here or stored.sealed:
            return
        del self._image.entries[entry.blob.id]
        self._image.announce(stored, gone=True)
        try:
            stored.remove_partial()
        except StoreError as error:
            log.warning("partial_not_removed", blob=str(entry.blob.id), reason=str(error))
