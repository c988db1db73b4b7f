"""What the gateway counts; metrics renders it."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

#: Upper bounds of the histogram's buckets, in seconds: a warm small file to a cold large one. One more bucket is above.
SECONDS_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


@dataclass(slots=True)
class GatewayStatistics:
    requests: Counter[tuple[str, int]] = field(default_factory=Counter)  # (route, status)
    seconds: list[int] = field(default_factory=lambda: [0] * (len(SECONDS_BUCKETS) + 1))  # per bucket, not cumulative
    seconds_sum: float = 0.0
    bytes_out: int = 0  # of bodies
    clients: int = 0  # connected now
    interims: int = 0  # interim responses sent to keep clients alive
    broken: int = 0  # answers that ended before their last byte, by our failure
    gone: int = 0  # clients that left before their answer

    def answered(self, route: str, status: int, seconds: float) -> None:
        self.requests[route, status] += 1
        self.seconds[bisect_left(SECONDS_BUCKETS, seconds)] += 1
        self.seconds_sum += seconds
