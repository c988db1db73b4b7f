"""Virtual time: a heap of what happens when. What is due at one moment happens in the order in which it was asked for."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._asked = 0

    def at(self, when: float, do: Callable[[], None]) -> None:
        self._asked += 1
        heappush(self._due, (when, self._asked, do))

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        self.at(self.now + seconds, do)

    def run(self, until: float, *, over: Callable[[], bool]) -> None:
        """Until it is over, nothing is left to happen, or the time is up."""
        while self._due and self._due[0][0] <= until and not over():
            self.now, _, do = heappop(self._due)
            self.events += 1
            do()
