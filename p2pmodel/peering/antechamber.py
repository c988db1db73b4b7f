"""Where connections wait until they have proven who they are: so many at once, so many an address.

A stranger who only stands there must not keep the next one out: when all places are taken, the address that has most of
them gives up its oldest. So a crowd from a few addresses pushes itself aside, and one from very many keeps nobody out for
longer than its own members stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from p2pmodel.limits import UNPROVEN_CONNECTIONS_MAX, UNPROVEN_PER_ADDRESS_MAX


class Antechamber:
    def __init__(self) -> None:
        self._there: dict[str, list[trio.CancelScope]] = {}  # by host, oldest first

    def refuses(self, host: str) -> bool:
        """Whether this host has all the places that one may have."""
        return len(self._there.get(host, ())) >= UNPROVEN_PER_ADDRESS_MAX

    @contextmanager
    def place(self, host: str, scope: trio.CancelScope) -> Iterator[None]:
        """A place for as long as this is open; `scope` is cancelled if another one needs it more."""
        if sum(map(len, self._there.values())) >= UNPROVEN_CONNECTIONS_MAX:
            self._make_way()
        self._there.setdefault(host, []).append(scope)
        try:
            yield
        finally:
            self._leave(host, scope)

    def _make_way(self) -> None:
        host = max(self._there, key=lambda each: len(self._there[each]))  # of equals the one that came first
        oldest = self._there[host][0]
        self._leave(host, oldest)
        oldest.cancel()

    def _leave(self, host: str, scope: trio.CancelScope) -> None:
        there = self._there.get(host, [])
        if scope in there:  # else it made way before
            there.remove(scope)
            if not there:
                del self._there[host]
