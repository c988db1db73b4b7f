"""The two files beside a partial blob, kept in step: the record of its durable chunks, and the words that they came with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from p2pmodel.content import Attestation, Blob
from p2pmodel.store import record, words
from p2pmodel.store.disk import Disk
from p2pmodel.store.layout import Shelf
from p2pmodel.store.record import Claim, RecordFile
from p2pmodel.store.words import Kept, WordsFile


class Journal:
    """`claims` and `words` are what an earlier run left."""

    def __init__(self, disk: Disk, shelf: Shelf, blob: Blob, *, goes_on: bool) -> None:
        found = record.read(shelf.record(blob.id)) if goes_on else None
        recorded = found if found is not None and found.blob == blob else None
        kept = words.read(shelf.words(blob.id), blob) if recorded else Kept()
        self.claims: Mapping[int, Claim] = recorded.claims if recorded else {}
        self.words = kept.words
        self._record = RecordFile(disk, shelf.record(blob.id), blob, length=recorded.length if recorded else 0)
        self._words = WordsFile(disk, shelf.words(blob.id), blob, kept)

    def append(self, claims: Iterable[tuple[int, Claim | None]], words: Iterable[Attestation] = ()) -> None:
        """Durable when this returns, the words first: what is claimed on another's word can be handed on by the next run."""
        self._words.append(words)
        self._record.append(claims)

    def move(self, shelf: Shelf, blob: Blob) -> None:
        self._record.move(shelf.record(blob.id))
        self._words.move(shelf.words(blob.id))

    def remove(self) -> None:
        self._words.remove()
        self._record.remove()

    def close(self) -> None:
        self._words.close()
        self._record.close()
