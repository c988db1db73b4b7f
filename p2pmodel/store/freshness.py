"""Which chunks of a file were found right, and how the file looked then (DESIGN §9.8)."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2pmodel.content import ChunkMap

Look = tuple[int, int, int]


def look(file: int | Path) -> Look:
    there = os.stat(file)  # noqa: PTH116  # takes a descriptor too
    return there.st_mtime_ns, there.st_ctime_ns, there.st_size


class Freshness:
    """Outlives the open blob: a file opened again in the same run is not hashed again. Safe to use from many threads."""

    def __init__(self, count: int) -> None:
        self._chunks = ChunkMap(count)
        self._look: Look | None = None
        self._lock = threading.Lock()

    def add(self, index: int) -> None:
        with self._lock:
            self._chunks.add(index)

    def discard(self, index: int) -> None:
        with self._lock:
            self._chunks.discard(index)

    def covers(self, index: int) -> bool:
        """Of a partial file, whose look moves with every write of ours."""
        return index in self._chunks

    def covers_still(self, index: int, file: int | Path) -> bool:
        """Of a sealed file: what was known of it is void once its look has moved."""
        now = look(file)
        with self._lock:
            if now != self._look:
                self._look = now
                self._chunks = ChunkMap(self._chunks.count)
            return index in self._chunks

    def settle(self, file: int | Path) -> None:
        """From now on the file looks like this (it was sealed)."""
        with self._lock:
            self._look = look(file)

    @contextmanager
    def our_change(self, file: int | Path) -> Iterator[None]:
        """Linking, renaming and chmod move the ctime too: when we do it ourselves, nothing is to be hashed again."""
        before = look(file)
        yield
        with self._lock:
            if before == self._look:
                self._look = look(file)
