"""Blobs to store, and the two stores behind one door: what happens to a store between two runs, and how it is damaged."""

import hashlib
import os
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from noise import noise

from p2pmodel.content import (
    Attestation,
    Blob,
    BlobId,
    Circle,
    Grade,
    Hub,
    Level,
    Repo,
    RepoKind,
    Seal,
    chunk_count,
    chunk_digest,
    chunk_start,
)
from p2pmodel.limits import CHUNK_BYTES
from p2pmodel.store import MemoryStore, Store
from p2pmodel.store.disk import Disk

REPO = Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/model")
COMMIT = "c0ffee" + "0" * 34
ONE_KEY = Ed25519PrivateKey.from_private_bytes(b"1" * 32)


def seal_of(stored):
    """Somebody's seal of what is held."""
    return Seal(stored.manifest().root, b"k" * 32, b"s" * 64)


@dataclass(frozen=True)
class Sample:
    """A blob with its bytes; `alias` is its other hub's name."""

    data: bytes = field(repr=False)
    blob: Blob
    alias: BlobId

    @property
    def count(self):
        return chunk_count(self.blob.size)

    def chunk(self, index):
        return memoryview(self.data)[chunk_start(index) : chunk_start(index) + CHUNK_BYTES]

    def digest(self, index):
        return chunk_digest(self.chunk(index))

    def write(self, stored, chunks=None, grade=Grade.OWN, word=None):
        for index in range(self.count) if chunks is None else chunks:
            stored.write(index, self.chunk(index), self.digest(index), grade, word)

    def put(self, store, *, private=False, alias=None):
        """Sealed, and closed again."""
        stored = store.open(self.blob, private=private)
        self.write(stored)
        stored.finish(alias, seal_of(stored))
        stored.close()


def sample(seed, size=CHUNK_BYTES + 5, algorithm="sha256"):
    data = noise(seed, size)
    names = {
        "sha256": BlobId("sha256", hashlib.sha256(data).hexdigest()),
        "git-sha1": BlobId("git-sha1", hashlib.sha1(b"blob %d\0" % size + data).hexdigest()),
    }
    name = names.pop(algorithm)
    return Sample(data, Blob(name, size), names.popitem()[1])


def word_for(blob, first, stop=None, *, key=ONE_KEY, level=Level.WITNESS):
    """Somebody's word for chunks of a sample."""
    digests = b"".join(map(blob.digest, range(first, stop or first + 1)))
    return Attestation.sign(blob.blob, first, digests, level, circle=Circle(bytes(8)), key=key)


def read(stored):
    """The whole file, by its descriptor."""
    return os.pread(stored.fileno(), stored.blob.size + 1, 0)


class OnDisk:
    """`settings` go to every store that is opened here."""

    def __init__(self, state_dir, **settings):
        self.state_dir = state_dir
        self.settings = {"fsync": False, **settings}
        self.store = Store(state_dir, **self.settings)

    def restart(self, **settings):
        self.store.close()
        return self.start(**settings)

    def crash(self, **settings):
        """The process is killed: descriptors are closed for it, nothing is said or written any more."""
        for entry in self.store._image.entries.values():
            if entry.live is not None:
                entry.live.shut()
        self.store._undo.close()
        return self.start(**settings)

    def start(self, **settings):
        self.store = Store(self.state_dir, **{**self.settings, **settings})
        return self.store

    def path(self, blob):
        for shelf in self.store.layout.shelves():
            for path in (shelf.sealed(blob), shelf.partial(blob)):
                if path.exists():
                    return path
        raise AssertionError(f"no file of {blob}")

    def damage(self, blob, index):
        path = self.path(blob)
        mode = path.stat().st_mode
        path.chmod(0o600)
        with path.open("r+b") as file:
            byte = os.pread(file.fileno(), 1, chunk_start(index))[0]
            os.pwrite(file.fileno(), bytes([byte ^ 1]), chunk_start(index))
        path.chmod(mode)

    def close(self):
        self.store.close()


class InMemory:
    def __init__(self):
        self.store = MemoryStore()

    def restart(self):
        for file in list(self.store._files.values()):
            if file.live is not None:
                file.live.users = 1
                file.live.close()
        return self.crash()

    def crash(self):
        self.store.crash()
        return self.store

    def damage(self, blob, index):
        self.store.damage(blob, index)

    def close(self):
        self.store.close()


class Killed(BaseException):
    """The process ends here."""


class FaultyDisk(Disk):
    """Counts steps; at number `at` it raises `error` (and, if `sticky`, at every one after it)."""

    def __init__(self, *, at=None, error=None, sticky=False):
        super().__init__(fsync=False)
        self.steps = []
        self._at, self._error, self._sticky = at, error, sticky

    def step(self, name):
        self.steps.append(name)
        if self._at is not None and (len(self.steps) == self._at or (self._sticky and len(self.steps) > self._at)):
            raise self._error
