"""The store without a disk: for tests and simulations, held to the same contract as the real one.

Bytes live in memory files, so that `fileno()` is good for sendfile and pread. Nothing here looks at a clock or throws dice.
Faults are set from outside: `full`, `failing` (verbs that fail as a broken disk would), `damage` and `crash`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from p2pmodel.content import (
    Attestation,
    Blob,
    BlobId,
    ChunkMap,
    FileEntry,
    Grade,
    Manifest,
    Repo,
    Seal,
    Snapshot,
    chunk_count,
    chunk_digest,
    chunk_size,
    chunk_start,
)
from p2pmodel.content.pieces import PIECE_ENTRY_BYTES
from p2pmodel.delivery.ports import BlobState
from p2pmodel.errors import StoreDamagedError, StoreError, StoreFullError, WrongBytesError
from p2pmodel.store.inventory import Inventory
from p2pmodel.store.record import Claim
from p2pmodel.store.tree import folder_of
from p2pmodel.wire.packed import PARTIAL, REMOVED, SEALED, InventoryEntry


@dataclass(slots=True)
class _File:
    """What a crash leaves of a blob."""

    blob: Blob
    private: bool
    fd: int
    sealed: bool = False
    seal: Seal | None = None
    pieces: bytes = b""
    recorded: dict[int, Claim] = field(default_factory=dict)
    words: dict[int, Attestation] = field(default_factory=dict)
    checked: set[int] = field(default_factory=set)
    live: MemoryBlob | None = None

    @property
    def in_use(self) -> bool:
        return self.live is not None and self.live.users > 0


class MemoryBlob:
    def __init__(self, store: MemoryStore, file: _File) -> None:
        count = chunk_count(file.blob.size)
        self.blob = file.blob
        self.sealed = file.sealed
        self.private = file.private
        self.seal = file.seal
        self.held = ChunkMap.full(count) if file.sealed else ChunkMap(count)
        self.own = ChunkMap(count)
        self.claimed = ChunkMap(count) if file.sealed else ChunkMap(count, file.recorded)
        self.users = 0
        self._store = store
        self._file = file
        self._claims = dict(file.recorded)
        self._words = dict(file.words)

    def fileno(self) -> int:
        return self._file.fd

    def digest(self, index: int) -> bytes | None:
        claim = self._claims.get(index)
        return claim.digest if claim else None

    def grade(self, index: int) -> Grade:
        claim = self._claims.get(index)
        return claim.grade if claim else Grade.SINGLE

    def word(self, index: int) -> Attestation | None:
        return self._words.get(index)

    def write(self, index: int, data: memoryview, digest: bytes, grade: Grade, word: Attestation | None = None) -> None:
        if len(data) != chunk_size(self.blob.size, index):
            raise ValueError(f"chunk {index} of {self.blob} with {len(data)} bytes")
        if self.sealed:
            return
        if index in self.held and self.digest(index) == digest:
            if grade is Grade.OWN:
                self._raise_to(index, grade)
            return
        if index in self.own:
            raise WrongBytesError(f"Chunk {index} of {self.blob.id} is not what we have from the hub.")
        self._forget(index)
        self._store.may("write")
        os.pwrite(self._file.fd, data, chunk_start(index))
        self._mark(index, Claim(digest, grade))
        if word is not None:
            self._words[index] = word

    def prove(self, index: int, digest: bytes) -> bool:
        same = not self.sealed and index in self.held and self.digest(index) == digest
        if same and self.grade(index) is not Grade.OWN:
            self._raise_to(index, Grade.ROOT)
        return same

    def commit(self) -> None:
        try:
            self._store.may("commit")
        except StoreError:
            for index in self.held.copy():
                if self._file.recorded.get(index) != self._claims[index]:
                    self._forget(index)
            raise
        if not self.sealed:
            self._file.recorded = {index: self._claims[index] for index in self.held | self.claimed}
            self._file.words = dict(self._words)

    def confirm(self, index: int) -> bool:
        if index not in self.claimed and index not in self.held:
            return False
        if not self._is_right(index):
            self.drop([index])
            return False
        if index in self.claimed:
            self.claimed.discard(index)
            self._mark(index, self._claims[index])
        return True

    def check(self, index: int) -> bool:
        if index not in self.held:
            return False
        if index in self._file.checked or self._is_right(index):
            self._file.checked.add(index)
            return True
        claim = self._claims[index]
        self.drop([index])
        self._claims[index] = claim  # of a sealed blob it is proven; the bytes are what is wrong
        return False

    def read_into(self, index: int, buffer: memoryview) -> None:
        self._store.may("read")
        size = chunk_size(self.blob.size, index)
        if os.preadv(self._file.fd, [buffer[:size]], chunk_start(index)) < size:
            raise StoreDamagedError(f"The file of {self.blob.id} ends before chunk {index}.")

    def drop(self, chunks: Iterable[int]) -> None:
        for index in list(chunks):
            self._forget(index)
        if self.sealed:
            for index in self.held:  # their digests are proven; whether the bytes are still theirs is another question
                self._claims[index] = Claim(self._claims[index].digest, Grade.OWN)
                self.own.add(index)
            self.sealed = self._file.sealed = False
            self._file.recorded = {index: self._claims[index] for index in self.held}
            self._store.changed(self._file)

    def finish(self, alias: BlobId | None, seal: Seal) -> None:
        if not self.held.complete:
            raise WrongBytesError(f"{self.blob.id} is not complete any more.")
        if self.manifest().root != seal.root:
            raise WrongBytesError(f"{self.blob.id} is no longer what was hashed.")
        self._store.may("finish")
        self.seal = self._file.seal = seal
        self.sealed = self._file.sealed = True
        self._file.recorded = {index: Claim(claim.digest, Grade.OWN) for index, claim in self._claims.items()}
        self._words, self._file.words = {}, {}
        self._store.sealed(self._file, alias)

    def manifest(self) -> Manifest:
        if len(self._claims) < self.held.count:
            raise StoreError(f"{self.blob.id} is not complete.")
        return Manifest(self.blob, b"".join(self._claims[index].digest for index in range(self.held.count)))

    def publish(self) -> None:
        self.private = self._file.private = False
        self._store.changed(self._file)

    def withdraw(self) -> None:
        if not self.private and not self.sealed and self.seal is None:
            self.private = self._file.private = True
            self._store.withdrawn(self._file)

    def close(self, *, keep_open: bool = False) -> None:
        self._store.released(self, self._file, keep_open=keep_open)

    def _mark(self, index: int, claim: Claim) -> None:
        self._claims[index] = claim
        self.claimed.discard(index)
        self.held.add(index)
        self._file.checked.add(index)
        if claim.grade.may_leave:
            self.own.add(index)

    def _raise_to(self, index: int, grade: Grade) -> None:
        """Its digest is right; whether the bytes on disk still have it is another question."""
        self._claims[index] = replace(self._claims[index], grade=grade)
        self.own.add(index)

    def _forget(self, index: int) -> None:
        for chunks in (self.held, self.own, self.claimed):
            chunks.discard(index)
        self._claims.pop(index, None)
        self._words.pop(index, None)
        self._file.checked.discard(index)

    def _is_right(self, index: int) -> bool:
        size = chunk_size(self.blob.size, index)
        return chunk_digest(os.pread(self._file.fd, size, chunk_start(index))) == self.digest(index)


class MemorySpool:
    def __init__(self, store: MemoryStore, size: int) -> None:
        self._store = store
        self._data = bytearray()
        self.grow(size)

    def grow(self, size: int) -> None:
        self._store.may("write")
        self._data += bytes(size)

    def write(self, data: bytes, offset: int) -> None:
        self._data[offset : offset + len(data)] = data

    def read_into(self, buffer: memoryview, offset: int) -> int:
        data = self._data[offset : offset + len(buffer)]
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._data.clear()


class MemoryStore:
    """A `Store` (delivery/ports) for one thread."""

    def __init__(self) -> None:
        self.full = False
        self.failing: set[str] = set()  # of "open", "read", "write", "commit", "finish", "materialise"
        self.materialised: dict[Path, dict[str, BlobId]] = {}  # what the cache tree would show
        self._files: dict[BlobId, _File] = {}
        self._aliases: dict[BlobId, BlobId] = {}
        self._inventory = Inventory()
        self._snapshots: dict[tuple[Repo, str], Snapshot] = {}
        self._refs: dict[tuple[Repo, str], str] = {}
        self._documents: dict[str, bytes] = {}

    # Faults

    def may(self, verb: str) -> None:
        """Raises what a full or broken disk would raise here."""
        if self.full and verb in {"write", "commit", "finish"}:
            raise StoreFullError("No room left on the device (a fault of the test).")
        if verb in self.failing:
            raise StoreError(f"The disk failed to {verb} (a fault of the test).")

    def damage(self, blob: BlobId, index: int) -> None:
        """Flip a bit of a stored chunk."""
        file = self._files[self._aliases.get(blob, blob)]
        byte = os.pread(file.fd, 1, chunk_start(index))[0]
        os.pwrite(file.fd, bytes([byte ^ 1]), chunk_start(index))
        file.checked.discard(index)

    def crash(self) -> None:
        """The power goes: what was not committed is lost. Open blobs are nobody's any more; the store is as after a restart."""
        for file in list(self._files.values()):
            file.live = None
            file.checked.clear()
            if not file.sealed:
                for index in set(range(chunk_count(file.blob.size))) - set(file.recorded):
                    os.pwrite(file.fd, bytes(chunk_size(file.blob.size, index)), chunk_start(index))
                if not file.recorded:
                    self._remove(file)
        self._inventory = Inventory()
        self._inventory.begin_with({file.blob: _state(file) for file in self._files.values() if not file.private})

    # The port

    def find(self, blob: BlobId) -> BlobState | None:
        file = self._file(blob)
        return self._state_of(file) if file else None

    def open(self, blob: Blob, *, private: bool) -> MemoryBlob:
        self.may("open")
        file = self._file(blob.id)
        if file is not None and file.blob.size != blob.size:
            if file.sealed or file.in_use:
                raise StoreError(f"{blob.id} has {file.blob.size} bytes here, not {blob.size}: a hub states a wrong size.")
            self._remove(file)
            file = None
        if file is None:
            fd = os.memfd_create(blob.id.hex, os.MFD_CLOEXEC)
            os.ftruncate(fd, blob.size)
            file = self._files[blob.id] = _File(blob, private, fd)
        if file.live is None:
            file.live = MemoryBlob(self, file)
        file.live.users += 1
        self.changed(file)
        return file.live

    def spool(self, size: int) -> MemorySpool:
        return MemorySpool(self, size)

    def pieces(self, blob: BlobId, first: int, count: int) -> bytes:
        file = self._file(blob)
        return file.pieces[first * PIECE_ENTRY_BYTES : (first + count) * PIECE_ENTRY_BYTES] if file else b""

    def keep_pieces(self, blob: BlobId, entries: bytes) -> None:
        file = self._file(blob)
        if file is not None and file.sealed:
            file.pieces = entries

    def check_room(self, size: int, keep: Collection[BlobId]) -> None:
        """There always is."""

    def blobs(self) -> Sequence[BlobState]:
        return [self._state_of(file) for file in self._files.values()]

    def inventory(self) -> tuple[int, bytes]:
        return self._inventory.sequence, self._inventory.digest

    def inventory_since(self, sequence: int) -> Sequence[InventoryEntry] | None:
        return self._inventory.since(sequence)

    def put_snapshot(self, snapshot: Snapshot) -> None:
        self._snapshots[snapshot.repo, snapshot.commit] = snapshot

    def snapshot(self, repo: Repo, commit: str) -> Snapshot | None:
        return self._snapshots.get((repo, commit))

    def snapshots(self) -> Sequence[tuple[Repo, str]]:
        return sorted(self._snapshots)

    def put_ref(self, repo: Repo, revision: str, commit: str) -> None:
        self._refs[repo, revision] = commit

    def ref(self, repo: Repo, revision: str) -> str | None:
        return self._refs.get((repo, revision))

    def put_document(self, key: str, body: bytes) -> None:
        self._documents[key] = body

    def document(self, key: str) -> bytes | None:
        return self._documents.get(key)

    def materialise(self, snapshot: Snapshot, files: Sequence[FileEntry]) -> Path:
        self.may("materialise")
        path = Path("/memory") / folder_of(snapshot.repo) / "snapshots" / snapshot.commit
        shown = self.materialised.setdefault(path, {})
        for entry in files:
            file = self._file(entry.blob.id) if entry.blob else None
            if entry.blob is not None and file is not None and file.sealed:
                shown[entry.path] = entry.blob.id
        return path

    def close(self) -> None:
        for file in self._files.values():
            if not file.in_use:
                os.close(file.fd)
        self._files.clear()

    # For open blobs

    def changed(self, file: _File) -> None:
        if not file.private:
            self._inventory.set(file.blob, _state(file))

    def withdrawn(self, file: _File) -> None:
        self._inventory.set(file.blob, REMOVED)

    def sealed(self, file: _File, alias: BlobId | None) -> None:
        twin = self._files.get(alias) if alias else None
        if twin is not None and twin.sealed and twin.blob.size == file.blob.size:
            self._aliases[file.blob.id] = twin.blob.id
            twin.private = twin.private and file.private
            self.changed(twin)
            self._remove(file)
            return
        if alias is not None:
            self._aliases[alias] = file.blob.id
            if twin is not None and not twin.in_use:
                self._remove(twin)
        self.changed(file)

    def released(self, stored: MemoryBlob, file: _File, *, keep_open: bool) -> None:
        stored.users -= 1
        here = self._files.get(file.blob.id) is file
        if file.live is not stored or stored.users or (keep_open and here and (stored.held or stored.claimed)):
            return
        file.live = None
        if not here:  # joined with another file, or closed with the store
            os.close(file.fd)
        elif not file.sealed:
            with suppress(StoreError):  # what was recorded before still is
                stored.commit()
            if not file.recorded:
                self._remove(file)

    def _file(self, blob: BlobId) -> _File | None:
        return self._files.get(blob) or self._files.get(self._aliases.get(blob, blob))

    def _remove(self, file: _File) -> None:
        """Its memory goes with its last reader."""
        del self._files[file.blob.id]
        if not file.private:
            self._inventory.set(file.blob, REMOVED)
        if not file.in_use:
            os.close(file.fd)

    def _state_of(self, file: _File) -> BlobState:
        count = chunk_count(file.blob.size) if file.sealed else len(file.recorded)
        held = len(file.live.held | file.live.claimed) if file.live else count
        return BlobState(file.blob, held, file.sealed, file.private)


def _state(file: _File) -> int:
    return SEALED if file.sealed else PARTIAL
