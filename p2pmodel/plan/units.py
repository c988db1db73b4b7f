"""Sizes and rates as people write them: "140GB", "25Gbit", "2Gbit/s", "300 MB/s"."""

from __future__ import annotations

import re
from typing import Final

from p2pmodel.settings import size as _size

_BITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BIT_RATE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(?:bit(?:/s)?|bps)", re.IGNORECASE)


def size(text: str) -> int:
    """Bytes. Raises ValueError with what was expected."""
    if count := _size(text):
        return count
    raise ValueError("a size above 0")


def rate(text: str) -> float:
    """Bytes per second, from bits ("25Gbit") or bytes ("3GB/s") a second. Raises ValueError with what was expected."""
    if match := _BIT_RATE.fullmatch(text.strip()):
        found = float(match[1]) * _BITS[match[2].lower()] / 8
    elif text.strip().lower().endswith("/s"):
        found = _size(text.strip()[:-2])
    else:
        raise ValueError('a rate like "25Gbit" or "300MB/s"')
    if not found:
        raise ValueError("a rate above 0")
    return found


def spell_rate(bytes_per_s: float) -> str:
    """As network people do: "25 Gbit/s"."""
    bits = bytes_per_s * 8
    for unit, factor in (("Gbit/s", 10**9), ("Mbit/s", 10**6), ("kbit/s", 10**3)):
        if bits >= factor:
            return f"{bits / factor:.3g} {unit}"
    return f"{bits:.3g} bit/s"
