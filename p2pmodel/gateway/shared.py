"""Answers of a hub that many clients ask for in the same moment, as two hundred that start together do: one request for all.

Only what anybody may see: a request with a credential is answered to whoever sent it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import replace
from http import HTTPStatus
from typing import Final

import trio

from p2pmodel.delivery.once import Once
from p2pmodel.gateway.response import Response
from p2pmodel.limits import KIB, REVISION_FRESH_S

_KEPT_MAX: Final = 256
_KEPT_BYTES_MAX: Final = 64 * KIB  # each; 16 MiB in all


class Shared:
    """Good answers, kept for REVISION_FRESH_S."""

    def __init__(self) -> None:
        self._once = Once()
        self._kept: OrderedDict[Hashable, tuple[float, Response]] = OrderedDict()

    async def answer(self, key: Hashable, ask: Callable[[], Awaitable[Response]]) -> Response:
        """`ask` must give a response whose body is bytes: it is sent more than once. Raises what `ask` raises."""
        at, kept = self._kept.get(key, (0.0, None))
        if kept is not None and trio.current_time() - at < REVISION_FRESH_S:
            return kept
        return await self._once.ask(key, lambda: self._ask(key, ask))

    async def _ask(self, key: Hashable, ask: Callable[[], Awaitable[Response]]) -> Response:
        response = await ask()
        headers = [(name, value) for name, value in response.headers if name.lower() != "set-cookie"]  # one client's session
        response = replace(response, headers=headers)
        small = isinstance(response.body, bytes) and len(response.body) <= _KEPT_BYTES_MAX
        if response.status == HTTPStatus.OK and small:
            self._kept[key] = (trio.current_time(), response)
            self._kept.move_to_end(key)
            while len(self._kept) > _KEPT_MAX:
                self._kept.popitem(last=False)
        return response
