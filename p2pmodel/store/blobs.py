"""A blob on disk, open: a partial file that fills up, is sealed, and may be found damaged and become partial again.

What must be known to change this file:
- `held` is what this run wrote or hashed, `claimed` what an earlier run's record says, `unrecorded` what no record says yet.
- The order that survives a power cut: data, sync, record, sync (`commit`); sync, index row, rename, directory sync (`finish`).
- After a failed sync the kernel calls the pages clean although they may be lost: what was not yet recorded is dropped.
- Locks are taken in this order: `_files` (one at a time moves files of this blob), the store's own, `_state` (moments).
  Keeper.give_back may be called under any of them.
- Writes run outside of the locks, one at a time a chunk; a chunk is unmarked before its bytes change and marked after.
- What we read from the hub ourselves, or what is proven, stays as it is until it is dropped: a client may be reading it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Protocol

import structlog

from p2pmodel.content import Attestation, Blob, BlobHasher, BlobId, ChunkMap, Grade, Manifest, Seal, chunk_size, chunk_start
from p2pmodel.content.manifest import DIGEST_BYTES
from p2pmodel.errors import StoreDamagedError, StoreError, WrongBytesError
from p2pmodel.store.disk import Disk
from p2pmodel.store.freshness import Freshness
from p2pmodel.store.journal import Journal
from p2pmodel.store.layout import Shelf, own_directory
from p2pmodel.store.marks import Marks

log = structlog.get_logger()


class Keeper(Protocol):
    """What an open blob needs of its store."""

    def reserve(self, size: int) -> None:
        """Room for so many bytes, made if need be. Raises StoreFullError."""

    def give_back(self, size: int) -> None: ...

    def twin(self, stored: DiskBlob, alias: BlobId) -> DiskBlob | None:
        """The sealed blob of that other name, opened for the caller, who closes it."""

    def put_manifest(self, stored: DiskBlob, digests: bytes, seal: Seal | None, alias: BlobId | None) -> None: ...

    def sealed(self, stored: DiskBlob, alias: BlobId | None) -> None: ...

    def joined(self, stored: DiskBlob, twin: DiskBlob) -> None: ...

    def unsealed(self, stored: DiskBlob) -> None: ...

    def shelf(self, *, private: bool) -> Shelf: ...

    def published(self, stored: DiskBlob) -> None: ...

    def withdrawn(self, stored: DiskBlob) -> None: ...

    def parted(self, stored: DiskBlob) -> None:
        """It was adopted, and has a file of its own now."""

    def damaged(self, chunks: int) -> None:
        """So many chunks were found not to be what they were."""

    def released(self, stored: DiskBlob, *, keep_open: bool) -> None: ...


class DiskBlob:
    """A `StoredBlob` (delivery/ports). Made by `Store.open`."""

    def __init__(
        self,
        keeper: Keeper,
        disk: Disk,
        shelf: Shelf,
        blob: Blob,
        *,
        path: Path,
        fd: int,
        journal: Journal,
        fresh: Freshness,
        sealed: bool,
        adopted: bool = False,
    ) -> None:
        self.blob = blob
        self.private = shelf.private
        self.sealed = sealed
        self.adopted = adopted  # the file is somebody else's as well: it is only read
        self.seal: Seal | None = None
        self._marks = Marks(blob, sealed=sealed)
        self.held, self.own, self.claimed = self._marks.held, self._marks.own, self._marks.claimed
        self.fresh = fresh
        self.path = path
        self.users = 0  # the store counts
        self._keeper = keeper
        self._disk = disk
        self._shelf = shelf
        self._fd = fd
        self._journal = journal
        self._sealing = False
        self._misplaced = False  # unsealed, and the disk failed at moving the file
        self._joined = False  # reads another name's file; its own is gone
        self._files = threading.RLock()
        self._state = threading.Lock()
        self._written = threading.Condition(self._state)
        self._writing: set[int] = set()  # chunks whose bytes are being written

    @property
    def unrecorded(self) -> ChunkMap:
        """Chunks on disk that the next run will know nothing of."""
        return self._marks.unrecorded.copy()

    # As the store finds it

    def load(self, manifest: tuple[bytes, Seal | None] | None, journal: Journal) -> None:
        """What is known from the index (proven) and from an earlier run's journal."""
        if manifest is not None and len(manifest[0]) == len(self._marks.digests):
            self._marks.load_manifest(manifest[0])
            self.seal = manifest[1]
        self._marks.load_claims(journal.claims.items())
        self._marks.load_words(journal.words)

    def mend(self) -> None:
        """A sealed file that was cut short or has grown is put right in place; its last chunk is to be fetched again."""
        if self.sealed and os.fstat(self._fd).st_size != self.blob.size:
            self._lose(range(self.held.count)[-1:], forget_digests=False)

    # Reading

    def fileno(self) -> int:
        return self._fd

    def digest(self, index: int) -> bytes | None:
        return self._marks.digest(index)

    def read_into(self, index: int, buffer: memoryview) -> None:
        """`buffer` takes the chunk exactly or has room to spare. Raises StoreDamagedError if the file ends before."""
        size = chunk_size(self.blob.size, index)
        if self._disk.read_into(self._fd, buffer[:size], chunk_start(index)) < size:
            raise StoreDamagedError(f"The file of {self.blob.id} ends before chunk {index}.")

    def grade(self, index: int) -> Grade:
        return self._marks.grade(index)

    def word(self, index: int) -> Attestation | None:
        return self._marks.word(index)

    def manifest(self) -> Manifest:
        self._prove()
        if not self._marks.known.complete:
            raise StoreError(f"{self.blob.id} is not complete.")
        return Manifest(self.blob, self._marks.digests)

    def check(self, index: int) -> bool:
        self._prove()
        if index not in self.held:
            return False
        if self.fresh.covers_still(index, self._fd) if self.sealed else self.fresh.covers(index):
            return True
        if self._is_right(index):
            self.fresh.add(index)
            return True
        log.warning("chunk_damaged", blob=str(self.blob.id), chunk=index)
        self._keeper.damaged(1)
        self._lose([index], forget_digests=False)
        return False

    # Writing

    def write(self, index: int, data: memoryview, digest: bytes, grade: Grade, word: Attestation | None = None) -> None:
        size = chunk_size(self.blob.size, index)
        if len(data) != size or len(digest) != DIGEST_BYTES:
            raise ValueError(f"chunk {index} of {self.blob} with {len(data)} bytes and a digest of {len(digest)}")
        if self._misplaced:
            self._move_back()
        with self._state:
            self._written.wait_for(lambda: index not in self._writing)
            if self.sealed or self._sealing:
                return  # a hedge that lost its race
            if index in self.held and self.digest(index) == digest:
                if grade is Grade.OWN:
                    self._marks.raise_to(index, grade)
                return
            if index in self.own:
                raise WrongBytesError(f"Chunk {index} of {self.blob.id} is not what we have from the hub.")
            counted = self._unmark(index)
            self._writing.add(index)
        try:
            self._write(index, data, counted=bool(counted))
            with self._state:
                self._marks.hold(index, digest, grade, word)
                self.fresh.add(index)
        finally:
            with self._state:
                self._writing.discard(index)
                self._written.notify_all()

    def _write(self, index: int, data: memoryview, *, counted: bool) -> None:
        if not counted:
            self._keeper.reserve(len(data))
        try:
            self._disk.write(self._fd, data, chunk_start(index))
        except StoreError:
            self._keeper.give_back(len(data))
            raise

    def prove(self, index: int, digest: bytes) -> bool:
        with self._state:
            same = not self.sealed and index in self.held and self.digest(index) == digest
            if same:
                self._marks.raise_to(index, Grade.ROOT)
            return same

    def confirm(self, index: int) -> bool:
        if index not in self.claimed and index not in self.held:
            return False
        right = self._is_right(index)
        if not right:
            self._keeper.damaged(1)
        if not right and index in self.held:
            self._lose([index], forget_digests=True)
            return False
        with self._state:
            if index not in self.claimed:  # held, perhaps since a moment ago
                return index in self.held
            if right:
                self._marks.confirm(index)
                self.fresh.add(index)
            else:
                self._forget([index], forget_digests=True)
        return right

    def drop(self, chunks: Iterable[int]) -> None:
        self._lose(chunks, forget_digests=True)

    def commit(self) -> None:
        with self._files:
            with self._state:
                if self.sealed:
                    return
                new, gone, entries = self._marks.take_unrecorded()
                words = self._marks.words(new)
            if not entries:
                return
            try:
                if new:
                    self._sync_or_drop(new, self._disk.sync_data)
                self._journal.append(entries, words)
            except StoreError:
                with self._state:
                    self._marks.put_back(new, gone)
                raise

    def finish(self, alias: BlobId | None, seal: Seal) -> None:
        with self._files:
            with self._state:
                if not self.held.complete:
                    raise WrongBytesError(f"{self.blob.id} is not complete any more.")
                if Manifest(self.blob, self._marks.digests).root != seal.root:
                    raise WrongBytesError(f"{self.blob.id} is no longer what was hashed.")
                self._sealing = not self.sealed
            try:
                if self._sealing:
                    self._seal(alias, seal)
                elif not self._joined:
                    self._keeper.put_manifest(self, self._marks.digests, seal, alias)
                self.seal = seal
            finally:
                self._sealing = False

    def publish(self) -> None:
        with self._files:
            if self.private and not self._joined:
                self._move_to(self._keeper.shelf(private=False))
                self._keeper.published(self)

    def withdraw(self) -> None:
        with self._files:
            if not self.private and not self.sealed and self.seal is None:
                self._move_to(self._keeper.shelf(private=True))
                self._keeper.withdrawn(self)

    def _move_to(self, shelf: Shelf) -> None:
        """The record goes first: a start that finds the two apart takes the record's word."""
        self._journal.move(shelf, self.blob)
        if not self.sealed or self.path == self._shelf.sealed(self.blob.id):  # else it was adopted where it lies
            target = shelf.sealed(self.blob.id) if self.sealed else shelf.partial(self.blob.id)
            if self.sealed:
                self._make_room_for(target, shelf)
            with self.fresh.our_change(self._fd):
                if self.sealed and not self.adopted:
                    self._disk.chmod(self._fd, shelf.file_mode)
                self._disk.rename(self.path, target)
            self._disk.sync_directory(target.parent)
            self.path = target
        self._shelf, self.private = shelf, shelf.private

    def close(self, *, keep_open: bool = False) -> None:
        """The last user records what is held, so that the next run may claim it; failing at that loses time, not truth."""
        if self.users == 1:
            try:
                self.commit()
            except StoreError as error:
                log.warning("chunks_not_recorded", blob=str(self.blob.id), reason=str(error))
        self._keeper.released(self, keep_open=keep_open)

    def shut(self) -> None:
        """Close the files. Called by the store, under its lock, once nobody uses it."""
        with self._state:
            self._journal.close()
            os.close(self._fd)
            self._fd = -1

    def remove_partial(self) -> None:
        """Nothing of it is here, and nobody wants it: leave no file behind."""
        self._journal.remove()
        self._disk.unlink(self.path)

    # Sealing and unsealing

    def _seal(self, alias: BlobId | None, seal: Seal) -> None:
        twin = self._keeper.twin(self, alias) if alias else None
        if twin is not None:
            with closing(twin):
                self._join(twin)
            return
        self._disk.chmod(self._fd, self._shelf.file_mode)
        self._sync_or_drop(self.unrecorded, self._disk.sync)
        self._keeper.put_manifest(self, self._marks.digests, seal, alias)
        target = self._shelf.sealed(self.blob.id)
        if self.path != target:
            self._make_room_for(target, self._shelf)
            self._disk.rename(self.path, target)
            self.path = target
        self._disk.sync_directory(target.parent)
        self._journal.remove()
        self._now_sealed()
        self._keeper.sealed(self, alias)

    def _join(self, twin: DiskBlob) -> None:
        """The same bytes are sealed under the alias: keep that file, and read from it under the same descriptor."""
        os.dup2(twin.fileno(), self._fd, inheritable=False)
        self._joined = True
        self._journal.remove()
        self._disk.unlink(self.path)
        self._now_sealed()
        self._keeper.joined(self, twin)

    def _now_sealed(self) -> None:
        self.fresh.settle(self._fd)
        with self._state:
            self.sealed = True
            self._marks.all_recorded()
            self._marks.forget_words()

    def _lose(self, chunks: Iterable[int], *, forget_digests: bool) -> None:
        with self._state:
            if not (self.sealed or self._sealing):
                self._forget(chunks, forget_digests=forget_digests)
                return
        with self._files:
            with self._state:
                self._forget(chunks, forget_digests=forget_digests and not self.sealed)
                if self.sealed:  # what no manifest speaks for cannot be told right from wrong any more
                    self._forget(self.held - self._marks.known, forget_digests=True)
            if self.sealed:
                self._unseal()

    def _unseal(self) -> None:
        """Partial again, in place: hard links elsewhere see the repair, those of our own trees are taken away meanwhile.
        The digests of a sealed blob stay proven, so what is still held may leave as before."""
        with self._state:
            self.sealed = False
            self._marks.vouch_for_all()
        self._keeper.unsealed(self)
        if not self._joined:
            self._record_what_is_left()
            self._misplaced = True
            self._move_back()

    def _move_back(self) -> None:
        """From the sealed place to the partial one. Where the disk fails at it, the next write tries again."""
        with self._files:
            if self.adopted:
                self._part()
                return
            self._disk.chmod(self._fd, 0o600)
            try:
                writable = self._disk.open(self.path, writable=True)
            except FileNotFoundError:
                raise StoreDamagedError(f"The file of {self.blob.id} was removed while it was in use.") from None
            os.dup2(writable, self._fd, inheritable=False)  # readers keep their descriptor's number
            os.close(writable)
            self._disk.resize(self._fd, self.blob.size)
            partial = self._shelf.partial(self.blob.id)
            if self.path != partial:
                self._disk.rename(self.path, partial)
                self.path = partial
            self._disk.sync_directory(partial.parent)
            self._misplaced = False

    def _part(self) -> None:
        """Somebody's file is left as it is: what may still be right of it is copied, and hashed again before it is used."""
        partial, linked = self._shelf.partial(self.blob.id), self._shelf.sealed(self.blob.id)
        self._disk.unlink(partial)
        own = self._disk.create(partial, self.blob.size)
        try:
            self._disk.copy(self._fd, own, self.blob.size)
            os.dup2(own, self._fd, inheritable=False)
        finally:
            os.close(own)
        if self.path == linked:
            self._disk.unlink(linked)
        self.path, self.adopted = partial, False
        for index in self.held:
            self.fresh.discard(index)
        self._disk.sync_directory(partial.parent)
        self._keeper.parted(self)
        self._misplaced = False

    def _record_what_is_left(self) -> None:
        try:
            self._journal.append([(index, self._marks.claim(index)) for index in self.held])
        except StoreError as error:  # costs fetching them again after a restart
            log.warning("chunks_not_recorded", blob=str(self.blob.id), reason=str(error))

    def _prove(self) -> None:
        """A sealed blob whose manifest the index lost: hash it whole, once; believe nothing if the whole is wrong."""
        if not self.sealed or self._marks.known.complete:
            return
        with self._files:
            if not self.sealed or self._marks.known.complete:
                return
            whole = BlobHasher(self.blob.id.algorithm, self.blob.size)
            sizes = (chunk_size(self.blob.size, index) for index in range(self.held.count))
            self.fresh.settle(self._fd)
            digests = [self._disk.digest(self._fd, chunk_start(i), size, [whole]) for i, size in enumerate(sizes)]
            if whole.id() != self.blob.id:
                log.warning("blob_damaged", blob=str(self.blob.id))
                self._keeper.damaged(self.held.count)
                self._lose(range(self.held.count), forget_digests=True)
                return
            self._keeper.put_manifest(self, b"".join(digests), None, None)
            with self._state:
                self._marks.load_manifest(b"".join(digests))
            for index in self.held:
                self.fresh.add(index)

    def _sync_or_drop(self, new: ChunkMap, sync: Callable[[int], None]) -> None:
        try:
            sync(self._fd)
        except StoreError:
            with self._state:
                self._forget(new | self.unrecorded, forget_digests=True)
            raise

    def _make_room_for(self, target: Path, shelf: Shelf) -> None:
        if own_directory(target.parent, shelf.directory_mode):
            self._disk.sync_directory(target.parent.parent)

    def _unmark(self, index: int) -> int:
        """Before its bytes change. The caller holds `_state`."""
        self.fresh.discard(index)
        return self._marks.forget(index, digest_too=True)

    def _forget(self, chunks: Iterable[int], *, forget_digests: bool) -> None:
        """The caller holds `_state`."""
        freed = 0
        for index in chunks:
            self.fresh.discard(index)
            freed += self._marks.forget(index, digest_too=forget_digests)
        self._keeper.give_back(freed)

    def _is_right(self, index: int) -> bool:
        """Whether the bytes on disk are those of the digest; what the disk cannot read is not."""
        try:
            found = self._disk.digest(self._fd, chunk_start(index), chunk_size(self.blob.size, index))
        except StoreError:
            return False
        return found == self.digest(index)
