"""A byte rate shared by whoever takes from it: an uplink in two dozen lines."""

from __future__ import annotations

import re
from typing import Final

import trio

_PIECE_BYTES_MAX: Final = 256 * 1024
_PIECE_BYTES_MIN: Final = 1024
_PIECE_S: Final = 0.02  # a piece takes about so long: smooth enough to share, coarse enough to sleep for
_UNITS: Final = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}


class Pace:
    """A bucket that owes at most one piece: takers are served in the order in which they ask."""

    def __init__(self, rate: float | None = None) -> None:
        self.rate = rate  # bytes/s; None: no limit; may be changed at any time
        self._free_at = 0.0

    @property
    def piece_bytes(self) -> int:
        """How much to take at a time."""
        if self.rate is None:
            return _PIECE_BYTES_MAX
        return int(min(_PIECE_BYTES_MAX, max(_PIECE_BYTES_MIN, self.rate * _PIECE_S)))

    async def take(self, count: int) -> None:
        """Wait until `count` bytes may go."""
        if self.rate is None:
            return
        now = trio.current_time()
        self._free_at = max(self._free_at, now - _PIECE_S) + count / self.rate
        await trio.sleep_until(self._free_at)


def parse_rate(text: str) -> float:
    """Bytes per second from "100mbit" (bits) or "12.5MB" (bytes). Raises ValueError."""
    match = re.fullmatch(r"([0-9.]+)\s*([kmg]?)(bit|b)(?:ps|/s)?", text.strip().lower())
    if match is None:
        raise ValueError(f"not a rate: {text!r} (expected e.g. 100mbit or 12.5MB)")
    number, unit, measure = match.groups()
    return float(number) * _UNITS[unit] / (8 if measure == "bit" else 1)
