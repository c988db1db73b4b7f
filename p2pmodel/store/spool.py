"""Uploads on their way through: bytes that nobody has proven yet lie in nameless files, never among the blobs."""

from __future__ import annotations

import os

from p2pmodel.store.blobs import Keeper
from p2pmodel.store.disk import Disk


class FileSpool:
    """A `Spool` (delivery/ports) on disk. Made by `Store.spool`, which has reserved `size` bytes for it."""

    def __init__(self, disk: Disk, fd: int, size: int, keeper: Keeper) -> None:
        self._disk = disk
        self._fd = fd
        self._size = size
        self._keeper = keeper

    def grow(self, size: int) -> None:
        self._keeper.reserve(size)
        self._size += size

    def write(self, data: bytes, offset: int) -> None:
        self._disk.write(self._fd, data, offset)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        return self._disk.read_into(self._fd, buffer, offset)

    def close(self) -> None:
        os.close(self._fd)
        self._keeper.give_back(self._size)
