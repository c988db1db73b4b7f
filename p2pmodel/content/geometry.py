"""Byte ranges and chunks: every node cuts a blob alike, into 4 MiB chunks, the last one shorter, an empty blob into none."""

from __future__ import annotations

from p2pmodel.limits import CHUNK_BYTES


def chunk_count(size: int) -> int:
    """How many chunks a blob of `size` bytes has."""
    return -(-size // CHUNK_BYTES)


def chunk_start(index: int) -> int:
    """Where chunk `index` begins, in bytes."""
    return index * CHUNK_BYTES


def chunk_size(size: int, index: int) -> int:
    """How many bytes chunk `index` of a blob of `size` bytes has. Raises IndexError outside the blob."""
    if not 0 <= index < chunk_count(size):
        raise IndexError(f"a blob of {size} bytes has no chunk {index}")
    return min(CHUNK_BYTES, size - index * CHUNK_BYTES)


def chunks_covering(start: int, stop: int) -> range:
    """The chunks that hold bytes [start, stop)."""
    if stop <= start:
        return range(0)
    return range(start // CHUNK_BYTES, chunk_count(stop))
