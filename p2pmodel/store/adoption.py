"""Taking a file of somebody's cache into the store without a second copy (DESIGN §9.13).

A file of our own uid on our own device gets a hard link at its sealed place; of any other the path is remembered. Either
way the file stays its owner's: it is never written or made read-only, and one that has changed since it was hashed is no
longer what the store took it for. Nothing is believed before it was hashed, whatever its name says.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from p2pmodel.content import Blob, BlobHasher, BlobId, chunk_size, chunk_start
from p2pmodel.content.digest import Algorithm
from p2pmodel.content.geometry import chunk_count
from p2pmodel.errors import StoreError
from p2pmodel.limits import ADOPT_STEP_CHUNKS, BLOB_BYTES_MAX, TWO_NAMES_BYTES_MAX
from p2pmodel.store.disk import Disk, disk_errors
from p2pmodel.store.layout import Shelf


@dataclass(frozen=True, slots=True)
class Adopted:
    """Where an adopted blob's file lay, and how it looked when it was hashed. `linked`: it has a name in the store as well."""

    path: Path
    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    linked: bool = False
    private: bool = True

    @classmethod
    def of(cls, path: Path, there: os.stat_result) -> Adopted:
        return cls(path, there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns, there.st_ctime_ns)

    def same_file(self, there: os.stat_result | None) -> bool:
        return there is not None and (there.st_dev, there.st_ino) == (self.device, self.inode)

    def unchanged(self, there: os.stat_result | None) -> bool:
        return there is not None and self.looks_like(Adopted.of(self.path, there))

    def looks_like(self, other: Adopted) -> bool:
        """A linked file's ctime moves with each link of ours, so it says nothing."""
        mine = (self.device, self.inode, self.size, self.mtime_ns)
        if mine != (other.device, other.inode, other.size, other.mtime_ns):
            return False
        return self.linked or self.ctime_ns == other.ctime_ns


class Candidate:
    """A file that may be adopted, being hashed a few chunks at a time. `name` is the hash that it claims to have, if any.

    Raises StoreError for what is no plain file, cannot be read, or changes meanwhile. Close it.
    """

    def __init__(self, disk: Disk, path: Path, name: BlobId | None) -> None:
        self.path = path
        self._disk = disk
        with disk_errors(f"opening {path}"):
            self._fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            there = os.fstat(self._fd)
        self.found = Adopted.of(path, there)
        if not stat.S_ISREG(there.st_mode) or there.st_size > BLOB_BYTES_MAX:
            self.close()
            raise StoreError(f"{path} is no file that a model could have.")
        self.foreign = there.st_uid != os.geteuid()
        self._name = name
        # The name that it claims comes first; a small file gets its other hub's name as well.
        algorithms: list[Algorithm] = (
            ["git-sha1", "sha256"] if name and name.algorithm == "git-sha1" else ["sha256", "git-sha1"]
        )
        count = 2 if there.st_size <= TWO_NAMES_BYTES_MAX else 1
        self._hashers = [BlobHasher(algorithm, there.st_size) for algorithm in algorithms[:count]]
        self._digests = bytearray()
        self._next = 0
        self._count = chunk_count(there.st_size)

    @property
    def hashed(self) -> bool:
        return self._next == self._count

    def step(self) -> int:
        """Hash a few chunks more; how many bytes they had. Blocking."""
        done = 0
        for index in range(self._next, min(self._next + ADOPT_STEP_CHUNKS, self._count)):
            size = chunk_size(self.found.size, index)
            self._digests += self._disk.digest(self._fd, chunk_start(index), size, self._hashers)
            self._next = index + 1
            done += size
        return done

    def names(self) -> tuple[Blob, BlobId | None]:
        """The blob, and its other name if it is small. Of a hashed one. Raises StoreError unless it is what it claimed."""
        blob, *alias = [hasher.id() for hasher in self._hashers]
        if not self.found.unchanged(os.fstat(self._fd)):
            raise StoreError(f"{self.path} changed while it was read.", next_step="Adopt it again when nobody writes to it.")
        if self._name not in {None, blob}:
            raise StoreError(f"{self.path} is damaged: it is not what its name says.")
        return Blob(blob, self.found.size), alias[0] if alias else None

    @property
    def digests(self) -> bytes:
        return bytes(self._digests)

    def link(self, shelf: Shelf, blob: BlobId) -> bool:
        """Give it a name at its sealed place; whether that could be done. Raises StoreError if it is another file by now."""
        if self.foreign:
            return False
        aside = shelf.partials / "adopting"
        aside.unlink(missing_ok=True)
        try:
            os.link(self.path, aside, follow_symlinks=False)
        except OSError:  # another device, a file system without links, a kernel that guards them
            return False
        if not replace(self.found, linked=True).unchanged(aside.lstat()):
            aside.unlink()
            raise StoreError(f"{self.path} changed while it was read.", next_step="Adopt it again when nobody writes to it.")
        self._disk.rename(aside, shelf.sealed(blob))
        return True

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


_WRITABLE: Final = 0o222


def is_somebodys(there: os.stat_result) -> bool:
    """Whether a sealed file came from a cache, should the index have forgotten it: what we seal ourselves is read-only."""
    return bool(there.st_mode & _WRITABLE)
