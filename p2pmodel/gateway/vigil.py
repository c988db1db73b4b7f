"""Watches over clients that wait for their answer to begin: keeps them patient, notices when they leave.

One task for all of them, because a request that is answered at once, as nearly all are, must not pay for a task of its own:
it only enters and leaves a dictionary.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from p2pmodel.gateway.interim import Interim
from p2pmodel.gateway.statistics import GatewayStatistics
from p2pmodel.gateway.stream import Stream
from p2pmodel.limits import VIGIL_S


@dataclass(eq=False, slots=True)
class Wait:
    """A client's wait. `interim` is what keeps it alive (nothing for some); `scope` is cancelled when it has left."""

    stream: Stream
    interim: Interim
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    sent: int = 0
    due: float = field(init=False)

    def __post_init__(self) -> None:
        self.due = trio.current_time() + self.interim.every_s


class Vigil:
    def __init__(self, statistics: GatewayStatistics) -> None:
        self._statistics = statistics
        self._waits: dict[Wait, None] = {}

    def begin(self, wait: Wait) -> None:
        self._waits[wait] = None

    def end(self, wait: Wait) -> None:
        """From here on the connection is the answer's: nothing is sent in between."""
        self._waits.pop(wait, None)

    async def run(self) -> None:
        while True:
            await trio.sleep(VIGIL_S)
            now = trio.current_time()
            for wait in list(self._waits):
                if not self._alive(wait, now):
                    self.end(wait)
                    self._statistics.gone += 1
                    wait.scope.cancel()

    def _alive(self, wait: Wait, now: float) -> bool:
        if wait.stream.gone:
            return False
        if wait.sent < wait.interim.at_most and now >= wait.due:
            wait.due = now + wait.interim.every_s
            wait.sent += 1
            try:
                wait.stream.try_send(wait.interim.line)
            except trio.BrokenResourceError:
                return False
            self._statistics.interims += 1
        return True
