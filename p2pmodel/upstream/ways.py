"""The upstreams in the order in which they are worth asking now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import trio

from p2pmodel.content import Hub
from p2pmodel.errors import OfflineError, UnavailableError
from p2pmodel.limits import HUB_DOWN_S
from p2pmodel.upstream.client import Client
from p2pmodel.upstream.dialect import Dialect


@dataclass(slots=True, eq=False)
class Way:
    """One upstream: its connections, its dialect and its health."""

    client: Client
    dialect: Dialect
    down_until: float = 0.0
    trouble: str = ""

    @property
    def hub(self) -> Hub:
        return self.client.upstream.hub

    @property
    def down(self) -> bool:
        return self.down_until > trio.current_time()

    @property
    def resting(self) -> bool:
        return self.client.resting_until > 0

    @property
    def unwell(self) -> bool:
        """Whether another that may stand in for it would rather be asked."""
        return self.down or self.resting or self.client.health.unwell(trio.current_time())

    def may_beat(self, rate: float) -> bool:
        """Whether a read that gets so many bytes/s elsewhere had better come here."""
        return not self.unwell and self.client.health.may_beat(rate, trio.current_time())

    @property
    def rank(self) -> tuple[object, ...]:
        """The best sorts first: who is up, not asked for patience, without recent trouble; then as configured; then the
        quickest."""
        now, health = trio.current_time(), self.client.health
        trouble = (health.distrusted(now), self.down, self.resting, health.unwell(now))
        return (*trouble, self.client.upstream.priority, health.latency_class(now))

    def gone(self, trouble: str) -> None:
        """It was not heard of at all: others come first for a while."""
        self.down_until = trio.current_time() + HUB_DOWN_S
        self.trouble = trouble

    def answered(self) -> None:
        self.down_until = 0.0


class Ways:
    """Every configured way, by priority."""

    def __init__(self, ways: Iterable[Way], *, offline: bool) -> None:
        self._ways = sorted(ways, key=lambda way: way.client.upstream.priority)
        self._offline = offline

    def __iter__(self) -> Iterator[Way]:
        return iter(self._ways)

    def to(self, hub: Hub) -> list[Way]:
        """The best first, see `Way.rank`. Raises UnavailableError for none."""
        if self._offline:
            raise OfflineError(
                "This node is offline (node.offline, HF_HUB_OFFLINE).", next_step="Only what is here or at a peer can be had."
            )
        ways = [way for way in self._ways if way.hub is hub]
        if not ways:
            raise UnavailableError(f"No upstream for {hub} is configured.", next_step="Add one to [[upstream]].")
        return sorted(ways, key=lambda way: way.rank)
