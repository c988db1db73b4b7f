"""Uploads on their way through: bytes that nobody has proven yet lie in nameless files, never among the blobs."""

from __future__ import annotations

import os
from collections.abc import Callable

from p2pmodel.store.disk import Disk


class FileSpool:
    """A `Spool` (delivery/ports) on disk. Made by `Store.spool`; `give_back` is called once, when it is closed."""

    def __init__(self, disk: Disk, fd: int, give_back: Callable[[], None]) -> None:
        self._disk = disk
        self._fd = fd
        self._give_back = give_back

    def write(self, data: bytes, offset: int) -> None:
        self._disk.write(self._fd, data, offset)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        return self._disk.read_into(self._fd, buffer, offset)

    def close(self) -> None:
        os.close(self._fd)
        self._give_back()
