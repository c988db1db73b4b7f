"""How the tasks of a download wake each other.

Readers and the sealing task wait for any change of facts. A lane that finds nothing to do sleeps until there may be something
for it: with fifty peers a chunk is told fifty times, and if each time every lane looked whether there is something for it,
that would be most of what a node does. So it is asked first who may have something (`ready`), once for all lanes, and one lane
of a source is woken: if that finds an order it rings for the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from math import inf

import trio

from p2pmodel.swarm import SourceName

Sources = Iterable[SourceName]


class Bells:
    def __init__(self, ready: Callable[[Sources], Sources]) -> None:
        self._ready = ready
        self._changed = trio.Event()
        self._asleep: dict[SourceName, deque[trio.Event]] = {}  # lanes with nothing to do

    def ring_all(self) -> None:
        """Facts changed that concern everybody: whoever waits looks again."""
        self.ring(*self._asleep)
        self.tell()

    def tell(self) -> None:
        """Facts changed that give no lane anything to do."""
        self._changed.set()
        self._changed = trio.Event()

    def ring(self, *sources: SourceName) -> None:
        for source in self._ready([source for source in sources if source in self._asleep]):
            lanes = self._asleep[source]
            lanes.popleft().set()
            if not lanes:
                del self._asleep[source]

    async def change(self, until: float = inf) -> None:
        """Wait for a change of facts, at most until then."""
        if until == inf:  # most waits: a scope costs as much as the rest
            await self._changed.wait()
        else:
            with trio.move_on_at(until):
                await self._changed.wait()

    async def rung(self, source: SourceName, *, last: bool = False) -> None:
        """`last`: of the lanes of this source, this one is woken when no other sleeps. A lane that is cancelled here goes with
        the whole download: nobody else would be woken in its stead."""
        bell = trio.Event()
        lanes = self._asleep.setdefault(source, deque())
        lanes.append(bell) if last else lanes.appendleft(bell)
        await bell.wait()
