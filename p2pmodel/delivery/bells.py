"""How the tasks of a download wake each other.

Readers and the sealing task wait for any change of facts. A lane that finds nothing to do sleeps until its own bell rings:
with fifty peers a chunk is told fifty times, and if each time every lane looked whether there is something for it, that
would be most of what a node does.
"""

from __future__ import annotations

from math import inf

import trio

from p2pmodel.swarm import SourceName


class Bells:
    def __init__(self) -> None:
        self._changed = trio.Event()
        self._of_lanes: dict[SourceName, trio.Event] = {}  # of lanes with nothing to do

    def ring_all(self) -> None:
        """Facts changed that concern everybody: whoever waits looks again."""
        self.ring(*self._of_lanes)
        self.tell()

    def tell(self) -> None:
        """Facts changed that give no lane anything to do."""
        self._changed.set()
        self._changed = trio.Event()

    def ring(self, *sources: SourceName) -> None:
        for source in sources:
            if source in self._of_lanes:
                self._of_lanes.pop(source).set()

    async def change(self, until: float = inf) -> None:
        """Wait for a change of facts, at most until then."""
        with trio.move_on_at(until):
            await self._changed.wait()

    async def rung(self, source: SourceName) -> None:
        await self._of_lanes.setdefault(source, trio.Event()).wait()
