"""Lists that can grow, packed into one field of a message: inventory entries, runs of chunks, single chunks. Pages of them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeVar

import msgspec

from p2pmodel.content import Blob, BlobId

S = TypeVar("S", bytes, "list[InventoryEntry]")

REMOVED, PARTIAL, SEALED = 0, 1, 2  # InventoryEntry.state


class InventoryEntry(msgspec.Struct, frozen=True):
    """What a node says of one blob in its inventory."""

    blob: BlobId
    size: int
    state: int


_ENTRY: Final = struct.Struct(">33sQB")
_RUN: Final = struct.Struct(">II")
_INDEX: Final = struct.Struct(">I")
ENTRY_BYTES: Final = _ENTRY.size


def pack_entries(entries: Iterable[InventoryEntry]) -> bytes:
    return b"".join(_ENTRY.pack(entry.blob.to_bytes(), entry.size, entry.state) for entry in entries)


def unpack_entries(data: bytes) -> list[InventoryEntry]:
    """Raises ValueError for anything but whole, known entries."""
    entries = []
    for raw, size, state in _records(_ENTRY, data):
        if state not in {REMOVED, PARTIAL, SEALED}:
            raise ValueError(f"an inventory entry of state {state}")
        entries.append(InventoryEntry(Blob(BlobId.from_bytes(raw), size).id, size, state))
    return entries


def pack_runs(runs: Iterable[tuple[int, int]]) -> bytes:
    return b"".join(_RUN.pack(first, count) for first, count in runs)


def unpack_runs(data: bytes) -> list[tuple[int, int]]:
    """Raises ValueError for a list cut off in the middle."""
    return _records(_RUN, data)


def pack_indices(chunks: Iterable[int]) -> bytes:
    return b"".join(_INDEX.pack(index) for index in chunks)


def unpack_indices(data: bytes) -> list[int]:
    """Raises ValueError for a list cut off in the middle."""
    return [index for (index,) in _records(_INDEX, data)]


def _records(record: struct.Struct, data: bytes) -> list[tuple[Any, ...]]:
    try:
        return list(record.iter_unpack(data))
    except struct.error:
        raise ValueError(f"a packed list of {len(data)} bytes is no multiple of {record.size}") from None


def pages(items: S, step: int) -> Iterator[tuple[int, S, bool]]:
    """Of an answer that comes in pages: where each begins, what is on it, whether it is the last. One is empty if all is."""
    for start in range(0, max(1, len(items)), step):
        yield start, items[start : start + step], start + step >= len(items)
