"""What is known of each chunk of an open blob: here or only claimed, by which digest, of which grade, recorded or not.

Pure bookkeeping; the blob guards it with its lock. `held`, `own` and `claimed` are changed in place and never replaced:
a download holds on to them for its whole life.
"""

from __future__ import annotations

from collections.abc import Iterable

from p2pmodel.content import Attestation, Blob, ChunkMap, Grade, chunk_count, chunk_size
from p2pmodel.content.manifest import DIGEST_BYTES
from p2pmodel.store.record import Claim


class Marks:
    def __init__(self, blob: Blob, *, sealed: bool) -> None:
        self._blob = blob
        self.count = chunk_count(blob.size)
        self.held = ChunkMap.full(self.count) if sealed else ChunkMap(self.count)
        self.own = ChunkMap(self.count)
        self.claimed = ChunkMap(self.count)
        self.known = ChunkMap(self.count)  # chunks with a digest
        self.unrecorded = ChunkMap(self.count)  # held, and no record says so yet
        self._taken_back = ChunkMap(self.count)  # no longer held, and a record may still say so
        self._grades: dict[int, Grade] = {}  # of what is held or claimed; SINGLE where none stands
        self._digests = bytearray(self.count * DIGEST_BYTES)
        self._words: dict[int, Attestation] = {}  # by which chunks came that are here on another's word

    # As an earlier run left it

    def load_manifest(self, digests: bytes) -> None:
        """Digests that a whole-file check has proven."""
        self._digests[:] = digests
        self.known = ChunkMap.full(self.count)

    def load_claims(self, claims: Iterable[tuple[int, Claim]]) -> None:
        for index, claim in claims:
            if self.digest(index) not in {None, claim.digest}:
                continue  # what an earlier run took for true was proven wrong
            self._set_digest(index, claim.digest)
            self.claimed.add(index)
            self._grade(index, claim.grade)

    def load_words(self, words: Iterable[Attestation]) -> None:
        """Oldest first: a later one of the same signer's covers more chunks, and then one object is enough."""
        for word in words:
            for index in word.chunks:
                if index in self.claimed and self.digest(index) == word.digest(index):
                    self._words[index] = word

    # Digests

    @property
    def digests(self) -> bytes:
        return bytes(self._digests)

    def digest(self, index: int) -> bytes | None:
        return bytes(self._digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]) if index in self.known else None

    def _set_digest(self, index: int, digest: bytes) -> None:
        self._digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES] = digest
        self.known.add(index)

    # Grades

    def grade(self, index: int) -> Grade:
        return self._grades.get(index, Grade.SINGLE)

    def _grade(self, index: int, grade: Grade) -> None:
        if grade is Grade.SINGLE:
            self._grades.pop(index, None)
        else:
            self._grades[index] = grade

    # Words

    def word(self, index: int) -> Attestation | None:
        return self._words.get(index)

    def words(self, chunks: Iterable[int]) -> list[Attestation]:
        return [word for index in chunks if (word := self._words.get(index)) is not None]

    def forget_words(self) -> None:
        """The blob's own hash was right: nobody need be asked who said so."""
        self._words.clear()

    # Coming and going

    def hold(self, index: int, digest: bytes, grade: Grade, word: Attestation | None = None) -> None:
        """Its bytes were written."""
        self._set_digest(index, digest)
        self.held.add(index)
        self.unrecorded.add(index)
        self._grade(index, grade)
        if word is not None:
            self._words[index] = word
        if grade.may_leave:
            self.own.add(index)

    def confirm(self, index: int) -> None:
        """Its bytes are what the record says."""
        self.claimed.discard(index)
        self.held.add(index)
        if self.grade(index).may_leave:
            self.own.add(index)

    def raise_to(self, index: int, grade: Grade) -> None:
        """We read the same from the hub ourselves, or the hub's own root proves it."""
        if self.grade(index) not in {Grade.OWN, grade}:
            self._grade(index, grade)
            self.own.add(index)
            self.unrecorded.add(index)

    def vouch_for_all(self) -> None:
        """They were sealed: their digests are proven."""
        for index in self.held:
            self._grade(index, Grade.OWN)
            self.own.add(index)

    def forget(self, index: int, *, digest_too: bool) -> int:
        """Bytes that no longer count as here."""
        counted = index in self.held or index in self.claimed
        if counted:
            self._taken_back.add(index)
        for chunks in (self.held, self.own, self.claimed, self.unrecorded):
            chunks.discard(index)
        self._grades.pop(index, None)
        self._words.pop(index, None)
        if digest_too:
            self.known.discard(index)
        return chunk_size(self._blob.size, index) if counted else 0

    # For the record

    def claim(self, index: int) -> Claim:
        digest = self.digest(index)
        if digest is None:
            raise AssertionError(f"chunk {index} is held without a digest")
        return Claim(digest, self.grade(index))

    def take_unrecorded(self) -> tuple[ChunkMap, ChunkMap, list[tuple[int, Claim | None]]]:
        """Chunks to record, chunks to take back, and the entries that say so. They count as recorded from now on."""
        new, gone = self.unrecorded, self._taken_back - self.unrecorded
        self.all_recorded()
        entries: list[tuple[int, Claim | None]] = [(index, self.claim(index)) for index in new]
        return new, gone, entries + [(index, None) for index in gone]

    def put_back(self, new: ChunkMap, gone: ChunkMap) -> None:
        """The record could not be written."""
        self.unrecorded |= new & self.held
        self._taken_back |= gone

    def all_recorded(self) -> None:
        self.unrecorded, self._taken_back = ChunkMap(self.count), ChunkMap(self.count)
