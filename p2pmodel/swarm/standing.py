"""A node's memory of which sources gave wrong bytes. Never on hearsay: only what this node saw with its own hash."""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pmodel.limits import REST_S, STRIKES_MAX


@dataclass(slots=True)
class Standing:
    """A strike is forgotten after REST_S; STRIKES_MAX of them rest a source for REST_S."""

    _strikes: dict[str, list[float]] = field(default_factory=dict)
    _rests: dict[str, float] = field(default_factory=dict)

    def strike(self, source: str, now: float) -> bool:
        """Count wrong bytes against a source; true when that puts it to rest."""
        recent = [at for at in self._strikes.get(source, []) if now - at < REST_S] + [now]
        self._strikes[source] = recent
        if len(recent) >= STRIKES_MAX:
            self.rest(source, now)
            return True
        return False

    def rest(self, source: str, now: float) -> None:
        """Proven false by an own read of the hub: not asked for REST_S."""
        self._rests[source] = now + REST_S
        self._strikes.pop(source, None)

    def resting(self, source: str, now: float) -> bool:
        return self._rests.get(source, 0.0) > now
