"""Many who ask the same at the same time: one of them asks, all get the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

import trio

from p2pmodel.errors import P2pmodelError

T = TypeVar("T")


class Once:
    """Questions on their way, by key."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight] = {}

    async def ask(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` answers or raises, shared; when the one that asks is cancelled, the next asks."""
        while (flight := self._flights.get(key)) is not None:
            await flight.over.wait()
            if flight.error is not None:
                raise flight.error.with_traceback(None)
            if flight.answered:
                answer: T = flight.answer
                return answer
        flight = self._flights[key] = _Flight()
        try:
            flight.answer = await ask()
            flight.answered = True
        except P2pmodelError as error:
            flight.error = error
            raise
        else:
            return flight.answer  # type: ignore[no-any-return]  # what `ask` just gave
        finally:
            del self._flights[key]
            flight.over.set()


class _Flight:
    def __init__(self) -> None:
        self.over = trio.Event()
        self.answer: Any = None
        self.answered = False
        self.error: P2pmodelError | None = None
