"""How fast bytes may move in one direction: a token bucket that lets the more urgent go first.

Bytes are granted before they are read or sent, so whoever waits here leaves them in the socket and the other end feels it.
A grant is a slice of PACE_SLICE_S, which keeps a limit exact within any few seconds and lets urgency act at once. Without a
limit nobody ever waits, and a grant costs two additions.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from itertools import count as counting
from math import inf

import trio

from p2pmodel.delivery.meter import Meter
from p2pmodel.limits import PACE_LATE_S, PACE_SLICE_S


class Urgency(IntEnum):
    """For what bytes are wanted. The smaller go first where bytes are short."""

    CLIENT = 0  # a program waits for them
    FETCH = 1
    PREFETCH = 2
    REPAIR = 3


class Turn:
    """A place in the queue: behind whatever is more urgent, and behind the turns of its own urgency that began before it.
    For one task at a time."""

    __slots__ = ("_number", "_pace", "_urgency")

    def __init__(self, pace: Pace, urgency: Callable[[], Urgency], number: int) -> None:
        self._pace = pace
        self._urgency = urgency  # asked whenever it matters: a client may join what was a prefetch
        self._number = number

    @property
    def rank(self) -> tuple[Urgency, int]:
        return self._urgency(), self._number

    async def take(self, count: int) -> int:
        """Wait until bytes may move, and how many of `count`: at least one of them. Those are to be moved before the next
        are taken. `take(0)` only waits."""
        return await self._pace.take(count, self)


class Pace:
    """`rate` is in bytes/s, 0 is no limit; all who move bytes in this direction share it."""

    def __init__(self, rate: int = 0) -> None:
        self._rate = rate
        self._free_at = -inf  # when all that was granted will have passed
        self._waiting: dict[Turn, trio.Event] = {}
        self._numbers = counting()
        self._meter = Meter()

    @property
    def rate(self) -> int:
        return self._rate

    def change(self, rate: int) -> None:
        """From now on. What was granted at the old rate is forgiven."""
        self._rate = rate
        self._free_at = min(self._free_at, trio.current_time())
        for news in self._waiting.values():
            news.set()

    @property
    def flow(self) -> float:
        """Bytes/s over the last seconds."""
        return self._meter.total(trio.current_time())

    def turn(self, urgency: Callable[[], Urgency]) -> Turn:
        return Turn(self, urgency, next(self._numbers))

    async def take(self, count: int, turn: Turn) -> int:
        """As `Turn.take`."""
        if self._rate and (self._waiting or self._free_at > trio.current_time()):
            await self._wait(turn)
        return self._grant(count)

    async def _wait(self, turn: Turn) -> None:
        """Until this turn is the first and what was granted before has passed, or the limit is gone."""
        try:
            while self._rate:
                news = self._waiting[turn] = trio.Event()
                first = min(self._waiting, key=lambda each: each.rank)
                if first is turn and self._free_at <= trio.current_time():
                    return
                if first is not turn:
                    self._waiting[first].set()  # it may not have been the first when it looked
                with trio.move_on_at(self._free_at if first is turn else inf):
                    await news.wait()
        finally:
            del self._waiting[turn]
            if self._waiting:
                self._waiting[min(self._waiting, key=lambda each: each.rank)].set()

    def _grant(self, count: int) -> int:
        now = trio.current_time()
        granted = count
        if self._rate:
            granted = min(count, max(1, round(self._rate * PACE_SLICE_S)))
            self._free_at = max(self._free_at, now - PACE_LATE_S) + granted / self._rate
        self._meter.count("granted", granted, now)
        return granted
