"""A blob's own hash, computed in order while its chunks arrive out of order, so that sealing costs no second read.

A chunk that arrives when its turn has come is hashed in the same thread hop that writes it, while it is hot; one that
came early is read back (from the page cache) when the gap before it has closed. One update at a time.
"""

from __future__ import annotations

from p2pmodel.content import Blob, BlobHasher, BlobId, Manifest, chunk_count, chunk_size
from p2pmodel.content.digest import Algorithm
from p2pmodel.delivery.ports import StoredBlob
from p2pmodel.limits import TWO_NAMES_BYTES_MAX

Generation = list[BlobHasher]


def update(generation: Generation, data: memoryview) -> None:
    """Blocking, any thread."""
    for hasher in generation:
        hasher.update(data)


class Sealing:
    def __init__(self, blob: Blob) -> None:
        self.blob = blob
        self.chunks = chunk_count(blob.size)
        self.restart()

    def restart(self) -> None:
        """Begin again from the first chunk: something hashed before was replaced."""
        small = self.blob.size <= TWO_NAMES_BYTES_MAX
        algorithms: tuple[Algorithm, ...] = ("sha256", "git-sha1") if small else (self.blob.id.algorithm,)
        self._hashers = [BlobHasher(algorithm, self.blob.size) for algorithm in algorithms]
        self.position = 0  # chunks hashed so far
        self._digests = bytearray()  # of those: which bytes were hashed, whatever happens to the file meanwhile
        self._busy = False

    def takes(self, index: int) -> bool:
        """Whether it is this chunk's turn; if so the caller must go on with `update` and then `done`."""
        if index != self.position or self._busy:
            return False
        self._busy = True
        return True

    @property
    def generation(self) -> Generation:
        """Another after a restart: an update that began before goes into the old one, and does not count."""
        return self._hashers

    def read_and_update(self, generation: Generation, stored: StoredBlob, index: int, buffer: memoryview) -> None:
        """Blocking: hash a chunk that is on disk already."""
        data = buffer[: chunk_size(self.blob.size, index)]
        stored.read_into(index, data)
        update(generation, data)

    def done(self, generation: Generation, digest: bytes) -> None:
        """`digest` is that of the chunk whose bytes were hashed, as it was known before they were read."""
        if generation is self._hashers:
            self.position += 1
            self._digests += digest
            self._busy = False

    def given_up(self, generation: Generation) -> None:
        """The update did not happen (the write before it failed, or it was cancelled): the hash state is unknown."""
        if generation is self._hashers:
            self.restart()

    @property
    def complete(self) -> bool:
        return self.position == self.chunks

    @property
    def right(self) -> bool:
        """Whether the bytes are those that the hub named. Of a complete blob."""
        return self.blob.id in self.names()

    def manifest(self) -> Manifest:
        """Of a complete blob: what was hashed."""
        return Manifest(self.blob, bytes(self._digests))

    def names(self) -> list[BlobId]:
        return [hasher.id() for hasher in self._hashers]

    @property
    def alias(self) -> BlobId | None:
        """The blob's other name, where it is small enough to be named by both hubs."""
        return next((name for name in self.names() if name != self.blob.id), None)
