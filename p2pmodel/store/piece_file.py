"""The list of a sealed blob's pieces, in a file beside it: a checksum, then 36 bytes a piece (content/pieces.py). It is written
whole and read in parts; one that is damaged is removed when its beginning is asked for, and may be made anew."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import blake3

from p2pmodel.content.pieces import PIECE_ENTRY_BYTES
from p2pmodel.errors import StoreError
from p2pmodel.limits import PIECES_MAX
from p2pmodel.store.disk import Disk

_CHECKSUM_BYTES: Final = 32


def read(disk: Disk, path: Path, first: int, count: int) -> bytes:
    """So many entries from piece `first` on, or as many as there are. Raises StoreError."""
    try:
        fd = disk.open(path, writable=False)
    except FileNotFoundError:
        return b""
    try:
        size = os.fstat(fd).st_size
        if first == 0 and not _whole(disk, fd, size):
            disk.unlink(path)
            return b""
        entries = memoryview(bytearray(count * PIECE_ENTRY_BYTES))
        return bytes(entries[: disk.read_into(fd, entries, _CHECKSUM_BYTES + first * PIECE_ENTRY_BYTES)])
    finally:
        os.close(fd)


def _whole(disk: Disk, fd: int, size: int) -> bool:
    """Whether the entries are those of the checksum. The reader's own check is that of their root, which costs more."""
    if size > _CHECKSUM_BYTES + PIECES_MAX * PIECE_ENTRY_BYTES:
        return False
    checksum = memoryview(bytearray(_CHECKSUM_BYTES))
    disk.read_into(fd, checksum, 0)
    return disk.digest(fd, _CHECKSUM_BYTES, size - _CHECKSUM_BYTES) == checksum


def write(disk: Disk, path: Path, entries: bytes) -> None:
    """Raises StoreError; then there is none, or the one before."""
    fresh = path.with_suffix(".new")
    disk.unlink(fresh)
    fd = disk.create(fresh, 0)
    try:
        disk.write(fd, blake3.blake3(entries).digest() + entries, 0)
        disk.sync_data(fd)
    except StoreError:
        disk.unlink(fresh)
        raise
    finally:
        os.close(fd)
    disk.rename(fresh, path)
