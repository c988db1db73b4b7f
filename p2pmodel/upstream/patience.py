"""Which hosts asked for patience, and until when. A hub's budget is the cluster's: what one node hears it tells the others.

A hub may count several budgets and name the one that an answer was counted in: huggingface.co has "api" and "resolvers", and
spending the first must not hold up files for five minutes. So a rest is a budget's, and by what budget a kind of question is
counted its last answer said; where nothing was said, a rest is for all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

import trio

from p2pmodel.limits import HUB_HEARSAY_MAX_S, HUB_REST_MAX_S

_UNSAID_S: Final = 10.0  # a 429 that names no time
_POLICIES: Final = re.compile(r',\s*(?=")')  # "api";r=9;t=5, "resolvers";r=0;t=7
_REMAINING: Final = re.compile(r"\br(?:emaining)?=(\d+)")
_NAME: Final = re.compile(r'\s*"([^"]{1,40})"')
_RESET: Final = re.compile(r"\b(?:t|reset)=(\d+)")


class Patience:
    """`on_busy(host, seconds)` is called for what a host itself said, not for what peers say of it."""

    def __init__(self, on_busy: Callable[[str, float], None]) -> None:
        self._on_busy = on_busy
        self._until: dict[tuple[str, str], float] = {}  # by host and budget; "" is all of them
        self._heard: dict[str, float] = {}  # by host: until when a peer says that it wants patience
        self._deaf: dict[str, float] = {}  # until when no other peer's word of it counts
        self._budgets: dict[tuple[str, str], str] = {}  # by host and kind of question

    def heed(self, host: str, status: int, headers: Mapping[str, str], kind: str = "") -> float | None:
        """Take note of what an answer asks for; returns the seconds if it asks for any."""
        budgets = [named[1] for policy in _policies(headers) if (named := _NAME.match(policy))]
        budget = budgets[0] if len(budgets) == 1 else ""
        if budget:
            self._budgets[host, kind] = budget
        seconds = asked_for(status, headers)
        if seconds:
            seconds = min(seconds, HUB_REST_MAX_S)
            self._rest(host, budget, seconds)
            self._deaf.pop(host, None)
            self._on_busy(host, seconds)
        return seconds

    def hearsay(self, host: str, seconds: float) -> None:
        """A peer says that `host` asks for patience: believed for HUB_HEARSAY_MAX_S at most, then, unless the host says so
        itself, not again for as long: whoever goes on saying it must not keep us from the hub. It holds for files, not for
        questions: where the hub is not asked, members are, and old answers stand; no peer shall choose when."""
        now = trio.current_time()
        if now >= self._deaf.get(host, 0.0):
            self._heard[host] = now + min(seconds, HUB_HEARSAY_MAX_S)
            self._deaf[host] = self._heard[host] + HUB_HEARSAY_MAX_S

    def _rest(self, host: str, budget: str, seconds: float) -> None:
        now = trio.current_time()
        self._until = {known: until for known, until in self._until.items() if until > now}
        self._until[host, budget] = max(self._until.get((host, budget), 0.0), now + seconds)

    def heard(self, host: str) -> float:
        """Trio time until which its files are to be left alone by what a peer says; 0 when it is over."""
        until = self._heard.get(host, 0.0)
        return until if until > trio.current_time() else 0.0

    def until(self, host: str, kind: str = "") -> float:
        """Trio time; 0 when nothing was asked or it is over."""
        budget = self._budgets.get((host, kind))
        rests = [
            until for (rested, of), until in self._until.items() if rested == host and (budget is None or of in {"", budget})
        ]
        until = max(rests, default=0.0)
        return until if until > trio.current_time() else 0.0


def _policies(headers: Mapping[str, str]) -> list[str]:
    return _POLICIES.split(headers.get("ratelimit", ""))


def asked_for(status: int, headers: Mapping[str, str]) -> float | None:
    """The seconds of patience that an answer asks for: Retry-After (RFC 9110 §10.2.3) of a 429 or 503, or a RateLimit
    whose remaining quota is 0 (draft-ietf-httpapi-ratelimit-headers), on whatever status. None if it asks for none."""
    refused = status == HTTPStatus.TOO_MANY_REQUESTS
    if refused or status == HTTPStatus.SERVICE_UNAVAILABLE:
        seconds = _retry_after(headers)
        if seconds is not None:
            return seconds
    spent = [_seconds_of(policy) for policy in _policies(headers) if _is_spent(policy)]
    return max(spent, default=_UNSAID_S if refused else None)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    text = headers.get("retry-after", "").strip()
    if text.isdecimal() and text.isascii():
        return float(text[:9])
    try:
        # Measured by the hub's own clock: ours may be wrong.
        return max(0.0, (parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("date", ""))).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None


def _is_spent(policy: str) -> bool:
    remaining = _REMAINING.search(policy)
    return remaining is not None and int(remaining[1][:9]) == 0


def _seconds_of(policy: str) -> float:
    reset = _RESET.search(policy)
    return float(reset[1][:9]) if reset else _UNSAID_S
