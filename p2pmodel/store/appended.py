"""A file that only grows. What was appended is durable when that returns; what a crash tore off is written over by the next."""

from __future__ import annotations

import os
from pathlib import Path

from p2pmodel.store.disk import Disk


class AppendedFile:
    """Open for appending beyond its first `length` bytes, which its reader found to be right. Made with its first bytes: what
    never gets any leaves no file."""

    def __init__(self, disk: Disk, path: Path, length: int) -> None:
        self.path = path
        self.length = length
        self._disk = disk
        self._fd: int | None = None

    def append(self, new: bytes) -> None:
        """If it raises, what stood there before still does."""
        if self._fd is None:
            self._fd = self._open()
        self._disk.write(self._fd, new, self.length)
        self._disk.sync_data(self._fd)
        if self.length == 0:
            self._disk.sync_directory(self.path.parent)
        self.length += len(new)

    def move(self, path: Path) -> None:
        if self.path.exists():
            self._disk.rename(self.path, path)
        self.path = path

    def remove(self) -> None:
        self.close()
        self.length = 0
        self._disk.unlink(self.path)

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> int:
        if self.length == 0:
            self._disk.unlink(self.path)
            return self._disk.create(self.path, 0)
        fd = self._disk.open(self.path, writable=True)
        self._disk.resize(fd, self.length)
        return fd
