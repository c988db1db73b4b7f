"""Which interim responses keep which client patient before its answer begins (RFC 9110 §15.2).

Clients give up after some ten seconds of silence, a cold file takes longer, and not a byte of it may leave before it is
confirmed. Tried (tests/clients/test_patience.py): huggingface_hub 0.17 to 2.4, hf_transfer, modelscope, curl and wget wait on
`100 Continue`; Node's fetch and aria2 break on 100 and take 102. git-lfs (Go's net/http) takes five of them and breaks on the
sixth; it gives up after 30 s of silence, and then asks seven times more. An unknown client gets nothing, and so does HTTP/1.0,
which knows no interim responses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import inf
from typing import Final

from p2pmodel.limits import INTERIM_INTERVAL_S


@dataclass(frozen=True, slots=True)
class Interim:
    """What to send while a client waits, how often, and how many times at most."""

    line: bytes
    every_s: float = INTERIM_INTERVAL_S
    at_most: float = inf


CONTINUE: Final = Interim(b"HTTP/1.1 100 Continue\r\n\r\n")
PROCESSING: Final = Interim(b"HTTP/1.1 102 Processing\r\n\r\n")
SELDOM: Final = Interim(CONTINUE.line, every_s=20.0, at_most=5)
SILENCE: Final = Interim(b"", at_most=0)

_TABLE: Final = (
    (re.compile(r"^(?:undici|node|aria2)\b", re.IGNORECASE), PROCESSING),
    (re.compile(r"^git-lfs/", re.IGNORECASE), SELDOM),
    (
        re.compile(r"hf_hub/|huggingface_hub/|python-requests/|python-httpx2?/|^modelscope|^curl/|^Wget/1\.", re.IGNORECASE),
        CONTINUE,
    ),
)


def interim_response(user_agent: str | None, http_version: str) -> Interim:
    """How to keep a client patient; where silence is safer, by nothing."""
    if user_agent is None or http_version < "1.1":
        return SILENCE
    return next((interim for pattern, interim in _TABLE if pattern.search(user_agent)), SILENCE)
