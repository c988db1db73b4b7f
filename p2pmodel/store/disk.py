"""The system calls that the store's promises hang on, in one place, so that a test can fail, forget or kill at any of them."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import blake3

from p2pmodel.content import BlobHasher
from p2pmodel.errors import StoreError, StoreFullError
from p2pmodel.limits import MIB

_PIECE_BYTES: Final = MIB  # read and hashed while it is hot in the CPU's cache
_FICLONE: Final = 0x40049409  # linux/fs.h
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """OSError leaves as StoreFullError or StoreError, with the deed and the system's reason."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFullError(
                f"No room left on the device while {doing}.", next_step="Free some space and run the same command again."
            ) from error
        if error.errno in _FORBIDDEN:
            told = "Run p2pmodel as the user who may write there, or choose another place."
            raise StoreError(f"{error.strerror} while {doing}.", next_step=told) from error
        raise StoreError(f"The disk failed while {doing}: {error.strerror or error}.") from error


class Disk:
    """Blocking, and safe to use from many threads. With `fsync` off, nothing waits for the device (tests, throw-away nodes)."""

    def __init__(self, *, fsync: bool = True) -> None:
        self._fsync = fsync
        self._scratch = threading.local()

    def step(self, name: str) -> None:
        """Called before each system call that changes the disk or makes a change durable. The seam for faults."""

    def create(self, path: Path, size: int) -> int:
        """A new sparse file of `size` bytes, open for reading and writing. Room is taken as chunks come: a reader of one
        header must not reserve the whole file."""
        self.step("create")
        with disk_errors("creating a file in the store"):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            os.ftruncate(fd, size)
            return fd

    def nameless(self, directory: Path) -> int:
        """A file that no crash leaves behind, open for reading and writing."""
        self.step("create")
        with disk_errors("creating a file in the store"), tempfile.TemporaryFile(dir=directory, buffering=0) as file:
            return os.dup(file.fileno())

    def open(self, path: Path, *, writable: bool) -> int:
        """Raises FileNotFoundError as itself: it is an answer, not a failure."""
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StoreError(f"Cannot open {path}: {error.strerror}.") from error

    def write(self, fd: int, data: memoryview | bytes, offset: int) -> None:
        self.step("write")
        with disk_errors("writing to the store"):
            done = os.pwrite(fd, data, offset)
            while done < len(data):
                done += os.pwrite(fd, memoryview(data)[done:], offset + done)

    def read_into(self, fd: int, buffer: memoryview, offset: int) -> int:
        """How many bytes came: fewer than the buffer takes only at the end of the file."""
        done = 0
        with disk_errors("reading from the store"):
            while done < len(buffer) and (got := os.preadv(fd, [buffer[done:]], offset + done)):
                done += got
        return done

    def digest(self, fd: int, offset: int, size: int, also: Sequence[BlobHasher] = ()) -> bytes:
        """BLAKE3 of a stretch of a file (whatever is there, if the file is shorter); `also` see the same bytes.
        Read, not mapped: a file cut short under a mapping would kill the process."""
        if not hasattr(self._scratch, "piece"):
            self._scratch.piece = memoryview(bytearray(_PIECE_BYTES))
        piece: memoryview = self._scratch.piece
        hasher = blake3.blake3()
        while size > 0:
            part = piece[: min(size, _PIECE_BYTES)]
            got = self.read_into(fd, part, offset)
            hasher.update(part[:got])
            for whole in also:
                whole.update(part[:got])
            if got < len(part):
                break
            offset += got
            size -= got
        return hasher.digest()

    def copy(self, source: int, target: int, size: int) -> None:
        """The bytes of one open file into another, of `size` bytes: shared blocks where the file system can."""
        self.step("copy")
        with disk_errors("copying a file into the store"):
            try:
                fcntl.ioctl(target, _FICLONE, source)
            except OSError:  # another file system, or one that cannot
                offset = 0
                while offset < size and (sent := os.sendfile(target, source, offset, min(size - offset, 64 * MIB))):
                    offset += sent
            os.ftruncate(target, size)

    def resize(self, fd: int, size: int) -> None:
        self.step("resize")
        with disk_errors("resizing a file of the store"):
            os.ftruncate(fd, size)

    def chmod(self, fd: int, mode: int) -> None:
        self.step("chmod")
        with disk_errors("changing a file's mode"):
            os.fchmod(fd, mode)

    def sync_data(self, fd: int) -> None:
        self.step("sync_data")
        if self._fsync:
            with disk_errors("syncing data"):
                os.fdatasync(fd)

    def sync(self, fd: int) -> None:
        self.step("sync")
        if self._fsync:
            with disk_errors("syncing a file"):
                os.fsync(fd)

    def sync_directory(self, path: Path) -> None:
        self.step("sync_directory")
        if not self._fsync:
            return
        with disk_errors("syncing a directory"):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        self.step("rename")
        with disk_errors("renaming a file of the store"):
            source.rename(target)

    def unlink(self, path: Path) -> None:
        """A file that is gone already is no error."""
        self.step("unlink")
        with disk_errors("removing a file of the store"):
            path.unlink(missing_ok=True)

    def free(self, path: Path) -> int:
        """Bytes that we may still write on this device."""
        with disk_errors("asking for free space"):
            room = os.statvfs(path)
            return room.f_bavail * room.f_frsize
