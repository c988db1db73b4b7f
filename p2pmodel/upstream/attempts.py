"""Reading from a hub that fails: which place is tried next, after how long, and when it is given up."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

import trio

from p2pmodel.delivery.ports import Location
from p2pmodel.errors import P2pmodelError, RateLimitedError, ShortAnswerError, SourceError
from p2pmodel.limits import HUB_CONNECT_TIMEOUT_S, HUB_TRIES_MAX, HUB_WAIT_MAX_S
from p2pmodel.upstream.client import UnreachableError
from p2pmodel.upstream.ways import Way

_BACKOFF_S: Final = 0.5
_BACKOFF_MAX_S: Final = 8.0


@dataclass(frozen=True, slots=True)
class Choice:
    """One place to read a blob from, with one credential."""

    way: Way
    location: Location
    token: str | None


class Attempts:
    """Which choice is next, after how long, and when to give up."""

    def __init__(self, choices: list[Choice], rng: Random, doubted: Collection[Way]) -> None:
        self._choices = choices
        self._doubted = doubted  # what these gave was not believed
        self._rng = rng
        self._failures = 0  # without progress in between
        self._asked_at = 0.0
        self._silent_since: float | None = None  # nothing at all was heard from then on
        self._rests: dict[Choice, float] = {}

    async def next(self) -> Choice:
        """The best choice, once its host's patience is over. Raises RateLimitedError if that takes too long."""
        now = trio.current_time()
        best = min(self._choices, key=lambda choice: (self._rested(choice) > now, self._doubts(choice.way), choice.way.rank))
        seconds = self._rested(best) - now
        if seconds > HUB_WAIT_MAX_S:
            raise RateLimitedError(
                f"{best.way.client.home.authority} asks for {seconds:.0f} s of patience", retry_after_s=seconds
            )
        if seconds > 0:
            await trio.sleep(seconds + self._rng.uniform(0, 0.5))  # the cluster was told the same moment
        self._asked_at = trio.current_time()
        return best

    def _doubts(self, way: Way) -> tuple[bool, bool]:
        return (way in self._doubted, not way.client.upstream.vouches) if self._doubted else (False, False)

    def add(self, choices: Sequence[Choice]) -> None:
        self._choices += choices

    def others(self, choice: Choice) -> list[Way]:
        """Which other upstreams may be asked."""
        return [other.way for other in self._choices if other.way is not choice.way]

    async def failed(self, choice: Choice, error: P2pmodelError, *, progressed: bool) -> None:
        """Take note; wait before the next try where that helps. Raises SourceError or RateLimitedError to give up."""
        if progressed:
            self._failures, self._silent_since = 0, None
        if isinstance(error, RateLimitedError):
            self._failures += 1
            self._rests[choice] = trio.current_time() + error.retry_after_s
            if self._failures >= HUB_TRIES_MAX:
                raise error
        elif isinstance(error, UnreachableError):
            await self._broken(choice, error)
        else:
            self._choices.remove(choice)
            if not self._choices:
                raise error if isinstance(error, SourceError) else SourceError(str(error)) from error

    async def _broken(self, choice: Choice, error: UnreachableError) -> None:
        now = trio.current_time()
        self._failures += 1
        if error.gone:
            choice.way.gone(str(error))
            self._silent_since = self._silent_since or self._asked_at
        else:
            self._silent_since = None
        pause = min(_BACKOFF_MAX_S, _BACKOFF_S * 2 ** (self._failures - 1)) * self._rng.uniform(0.5, 1.5)
        if any(not other.way.down for other in self._choices if other is not choice):
            pause = 0.0  # another upstream is there: no reason to wait
        silent_s = 0.0 if self._silent_since is None else now + pause - self._silent_since
        if silent_s > HUB_CONNECT_TIMEOUT_S or self._failures >= HUB_TRIES_MAX:
            raise ShortAnswerError(str(error)) from error
        await trio.sleep(pause)

    def _rested(self, choice: Choice) -> float:
        return max(self._rests.get(choice, 0.0), choice.way.client.resting_until)
