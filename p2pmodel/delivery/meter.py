"""How fast bytes came lately, by who gave them. Counted for every piece that arrives, so one addition is all it costs."""

from __future__ import annotations

from collections import deque
from typing import Final

WINDOW_S: Final = 10  # long enough for a slow hub's chunks, short enough to be now


class Meter:
    """Bytes by name in buckets of a second."""

    def __init__(self) -> None:
        self._buckets: dict[str, deque[list[int]]] = {}  # name → [second, bytes], oldest first
        self._since: dict[str, float] = {}

    def count(self, name: str, count: int, now: float) -> None:
        buckets = self._buckets.get(name)
        if buckets is None:
            buckets = self._buckets[name] = deque(maxlen=WINDOW_S + 1)
            self._since[name] = now
        second = int(now)
        if buckets and buckets[-1][0] == second:
            buckets[-1][1] += count
        else:
            buckets.append([second, count])

    def of(self, name: str, now: float) -> float:
        """Bytes/s over the last seconds; a first burst is spread over one second at least."""
        recent = sum(count for second, count in self._buckets.get(name, ()) if second > now - WINDOW_S)
        return recent / min(WINDOW_S, max(1.0, now - self._since.get(name, now)))

    def total(self, now: float) -> float:
        return sum(self.of(name, now) for name in self._buckets)
