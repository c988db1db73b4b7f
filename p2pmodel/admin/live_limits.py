"""The limits in force: told, changed by the owner, and set anew when the config file is read again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from p2pmodel.errors import ConfigError
from p2pmodel.settings import KEYS, LimitsSettings

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Dial:
    """A limit's place in the house: how it is changed there, and how much of it is used now."""

    change: Callable[[int], None]
    now: Callable[[], float]


class LiveLimits:
    """`dials` has one for each key of the section [limits]."""

    def __init__(self, settings: LimitsSettings, dials: Mapping[str, Dial]) -> None:
        self._dials = dials
        self._limits = {key: int(getattr(settings, key)) for key in dials}

    def tell(self) -> dict[str, dict[str, float]]:
        """By key: the limit (0 is none) and what is used of it, in bytes/s or connections."""
        return {key: {"limit": limit, "now": self._dials[key].now()} for key, limit in self._limits.items()}

    def change(self, assigned: Mapping[str, str]) -> None:
        """All of them, as a user writes them, or none. Raises ConfigError."""
        self._set({key: self._read(key, text) for key, text in assigned.items()})

    def follow(self, settings: LimitsSettings) -> None:
        """What a config file says now beats what was changed by hand."""
        self._set({key: int(getattr(settings, key)) for key in self._dials})

    def _read(self, key: str, text: str) -> int:
        if key not in self._dials:
            raise ConfigError(f"There is no limit {key!r}.", next_step=f"There are {', '.join(self._dials)}.")
        try:
            return int(str(KEYS[f"limits.{key}"](text)))
        except ValueError as error:
            raise ConfigError(f"limits.{key} must be {error}.") from None

    def _set(self, limits: Mapping[str, int]) -> None:
        for key, limit in limits.items():
            if limit != self._limits[key]:
                log.info("limit_changed", limit=key, before=self._limits[key], now=limit)
                self._dials[key].change(limit)
                self._limits[key] = limit
