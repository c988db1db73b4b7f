"""What the hub said lately of who may see what: a yes holds for minutes, longer while the hub is gone, and ends with a no."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import trio

from p2pmodel.content import Access, Repo
from p2pmodel.errors import RateLimitedError, UnavailableError
from p2pmodel.limits import ACCESS_BUSY_S, ACCESS_DENY_S, ACCESS_ENTRIES_MAX

Asked = tuple[bytes, bytes]  # who of which repo, and what of it


class Verdicts:
    """`secret` keys what stands for a credential here; tokens themselves are not kept."""

    def __init__(self, secret: bytes, *, allow_s: float, grace_s: float) -> None:
        self._secret = secret
        self._allow_s = allow_s
        self._grace_s = grace_s
        self._said: OrderedDict[Asked, tuple[float, bool]] = OrderedDict()

    def asked(self, access: Access, repo: Repo, *what: str) -> Asked:
        return self._tag(access.token or "", repo.hub, repo.kind, repo.name), self._tag(*what)

    def find(self, asked: Asked, *, trouble: UnavailableError | None = None) -> bool | None:
        """None when the hub has to be asked; with `trouble` it cannot be. A hub that is busy is not gone: whoever was refused
        could keep it busy, so its last yes lasts little longer."""
        at, allowed = self._said.get(asked, (None, False))
        if at is None:
            return None
        yes_lasts_s = self._allow_s
        if trouble is not None:
            yes_lasts_s = max(yes_lasts_s, self._grace_s)
        if isinstance(trouble, RateLimitedError):
            yes_lasts_s = min(yes_lasts_s, self._allow_s + ACCESS_BUSY_S)
        return allowed if trio.current_time() - at < (yes_lasts_s if allowed else ACCESS_DENY_S) else None

    def allowed(self, asked: Asked) -> None:
        self._remember(asked, allowed=True)

    def refused(self, asked: Asked) -> None:
        """Access is to a repo: with one file all that was allowed is over, also for the time when the hub is gone."""
        for each in [each for each in self._said if each[0] == asked[0]]:
            del self._said[each]
        self._remember(asked, allowed=False)

    def _remember(self, asked: Asked, *, allowed: bool) -> None:
        self._said[asked] = (trio.current_time(), allowed)
        self._said.move_to_end(asked)
        while len(self._said) > ACCESS_ENTRIES_MAX:
            self._said.popitem(last=False)

    def _tag(self, *parts: str) -> bytes:
        keyed = hashlib.blake2b(key=self._secret, digest_size=16)
        for part in parts:
            keyed.update(part.encode() + b"\0")
        return keyed.digest()
