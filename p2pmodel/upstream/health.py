"""What was seen of one upstream lately: how long it takes to answer, and how often it did not.

Only between upstreams that may stand in for each other does it matter, so it is kept coarse: a class of latency is twice as
slow as the one before, and one failure puts an upstream behind the others for half a minute.
"""

from __future__ import annotations

from math import log2
from typing import Final

from p2pmodel.limits import HUB_SLOW_REST_S, REST_S

_HALF_LIFE_S: Final = 40.0  # of a failure's weight
_TROUBLED: Final = 0.6
_QUICK_S: Final = 0.05  # faster than this is all the same
_FORGOTTEN_S: Final = 600.0  # a latency from so long ago says nothing: it is measured again
_MUCH_FASTER: Final = 4.0
_WEIGHT: Final = 0.3  # of the newest latency


class Health:
    """Times are trio's."""

    def __init__(self) -> None:
        self._failures = 0.0
        self._failed_at = 0.0
        self._latency_s: float | None = None
        self._measured_at = 0.0
        self._rate: float | None = None  # bytes/s of one read
        self._rated_at = 0.0
        self._slow_until = 0.0
        self._distrusted_until = 0.0

    def answered(self, seconds: float, now: float) -> None:
        """An answer's head came after so long."""
        stale = self._latency_s is None or now - self._measured_at > _FORGOTTEN_S
        self._failures = 0.5 * self._weight(now)
        self._failed_at = now
        self._latency_s = seconds if stale else (1 - _WEIGHT) * (self._latency_s or 0.0) + _WEIGHT * seconds
        self._measured_at = now

    def failed(self, now: float) -> None:
        self._failures = self._weight(now) + 1.0
        self._failed_at = now

    def moved(self, rate: float, now: float) -> None:
        """One read of it gave so many bytes/s, counting the time in which we waited for it."""
        self._rate, self._rated_at = rate, now

    def may_beat(self, rate: float, now: float) -> bool:
        """Whether it is worth it to drop a read that gives `rate` and begin here: it is much faster, or nobody knows. On a
        thin line all are slow, and each change costs the chunk under way."""
        known = self._rate is not None and now - self._rated_at < _FORGOTTEN_S
        return not self.unwell(now) and (not known or (self._rate or 0.0) > _MUCH_FASTER * rate)

    def dawdled(self, now: float) -> None:
        """Its bytes came too slowly, and somebody else may have them."""
        self._slow_until = now + HUB_SLOW_REST_S

    def lied(self, now: float) -> None:
        """It gave other bytes than the hub itself."""
        self._distrusted_until = now + REST_S

    def distrusted(self, now: float) -> bool:
        return self._distrusted_until > now

    def unwell(self, now: float) -> bool:
        """Whether another upstream would rather be asked."""
        return self.distrusted(now) or self._slow_until > now or self._weight(now) > _TROUBLED

    def latency_class(self, now: float) -> int:
        """0 for quick, and for not known: who was never asked is tried."""
        if self._latency_s is None or now - self._measured_at > _FORGOTTEN_S:
            return 0
        return int(log2(max(self._latency_s, _QUICK_S) / _QUICK_S))

    def _weight(self, now: float) -> float:
        return float(self._failures * 0.5 ** ((now - self._failed_at) / _HALF_LIFE_S))
