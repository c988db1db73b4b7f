"""Hosts where a node of another version is, that shares nothing with us: an operator in the middle of an upgrade is to know."""

from __future__ import annotations

import math
from dataclasses import dataclass

import structlog
import trio

from p2pmodel.limits import OTHER_VERSION_AGAIN_S, OTHER_VERSION_S, OTHER_VERSIONS_MAX

log = structlog.get_logger()


@dataclass(slots=True)
class _Met:
    at: float
    told_at: float = -math.inf


class OtherVersions:
    def __init__(self) -> None:
        self._met: dict[str, _Met] = {}  # by host, last met last

    def met(self, host: str) -> None:
        """A node there speaks none of our versions. It tries again and again; the log says so now and then."""
        now = trio.current_time()
        met = self._met[host] = self._met.pop(host, _Met(now))
        met.at = now
        if now - met.told_at >= OTHER_VERSION_AGAIN_S:
            met.told_at = now
            log.warning("peer_of_another_version", host=host, next_step="Upgrade the older of the two: they share nothing.")
        if len(self._met) > OTHER_VERSIONS_MAX:
            del self._met[next(iter(self._met))]

    @property
    def hosts(self) -> list[str]:
        """Where one was lately."""
        now = trio.current_time()
        return sorted(host for host, met in self._met.items() if now - met.at < OTHER_VERSION_S)
