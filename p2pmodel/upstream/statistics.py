"""What the upstreams were asked and gave."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

LATENCY_BOUNDS_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # upper bounds; a last bucket has no bound


@dataclass(slots=True)
class Statistics:
    """Plain counters; upstreams go by their configured names."""

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)  # (upstream, status or "error"); redirects count
    latency: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_S) + 1))  # until an answer's head, by bucket
    latency_sum_s: float = 0.0
    file_bytes: Counter[str] = field(default_factory=Counter)  # by upstream
    retries: int = 0
    failovers: int = 0

    def answered(self, upstream: str, status: int, seconds: float) -> None:
        self.requests[upstream, str(status)] += 1
        self.latency[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1
        self.latency_sum_s += seconds

    def failed(self, upstream: str) -> None:
        self.requests[upstream, "error"] += 1
