"""The file of a closed cluster's key: one join token, and while the cluster changes its key the one before, with its end."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Final, Self

from p2pmodel.errors import ConfigError
from p2pmodel.peering.membership import parse_join_token

_UNTIL: Final = "until"
_LINES_MAX: Final = 2


@dataclass(frozen=True, slots=True)
class KeyRing:
    """`former` is accepted as well until `until` (Unix time)."""

    token: str = field(repr=False)
    former: str | None = field(default=None, repr=False)
    until: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ConfigError, which does not repeat what is in the file."""
        lines = [line.split() for line in text.splitlines() if line.strip()]
        if not lines or len(lines) > _LINES_MAX or len(lines[0]) != 1:
            raise ConfigError("A cluster's key file holds one join token, and below it perhaps the one before.")
        token = lines[0][0]
        parse_join_token(token)
        if len(lines) == 1:
            return cls(token)
        former, *rest = lines[1]
        parse_join_token(former)
        try:
            word, written = rest
            until = dt.datetime.fromisoformat(written).timestamp()
        except ValueError:
            word, until = "", 0.0
        if word != _UNTIL:
            raise ConfigError('The second line of a cluster\'s key file is "TOKEN until TIME".')
        return cls(token, former, until)

    def spell(self) -> str:
        if self.former is None:
            return f"{self.token}\n"
        until = dt.datetime.fromtimestamp(self.until, dt.UTC).isoformat(timespec="seconds")
        return f"{self.token}\n{self.former} {_UNTIL} {until}\n"

    def accepted(self, now: float) -> list[str]:
        """The tokens that let others in at this time, ours first."""
        return [self.token] if self.former is None or now >= self.until else [self.token, self.former]

    def rotated(self, token: str, *, now: float, grace_s: float) -> Self:
        """With a new token. Raises ConfigError while an earlier change is not over: its former key would end at once."""
        if len(self.accepted(now)) > 1:
            raise ConfigError(
                "The cluster is changing its key already.",
                next_step="Wait until `p2pmodel status` says that the old one is out.",
            )
        return type(self)(token, self.token, now + grace_s)
