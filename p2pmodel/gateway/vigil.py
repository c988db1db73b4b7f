"""Watches over clients that wait for their answer to begin: keeps them patient, notices when they leave.

One task for all of them, because a request that is answered at once, as nearly all are, must not pay for a task of its own:
it only enters and leaves a dictionary.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from p2pmodel.gateway.statistics import GatewayStatistics
from p2pmodel.gateway.stream import Stream
from p2pmodel.limits import INTERIM_INTERVAL_S, VIGIL_S


@dataclass(eq=False, slots=True)
class Wait:
    """A client's wait. `interim` is what keeps it alive (nothing for some); `scope` is cancelled when it has left."""

    stream: Stream
    interim: bytes
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    due: float = field(default_factory=lambda: trio.current_time() + INTERIM_INTERVAL_S)


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
        if wait.interim and now >= wait.due:
            wait.due = now + INTERIM_INTERVAL_S
            try:
                wait.stream.try_send(wait.interim)
            except trio.BrokenResourceError:
                return False
            self._statistics.interims += 1
        return True
