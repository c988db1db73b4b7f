"""Which interim response keeps which client patient before its answer begins (RFC 9110 §15.2).

Clients give up after some ten seconds of silence, a cold file takes longer, and not a byte of it may leave before it is
confirmed. Tried (tests/clients/test_patience.py): huggingface_hub 0.17 to 2.4, hf_transfer, modelscope, curl and wget wait on
`100 Continue`; Node's fetch and aria2 break on 100 and take 102. An unknown client gets nothing, and so does HTTP/1.0, which
knows no interim responses.
"""

from __future__ import annotations

import re
from typing import Final

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
PROCESSING: Final = b"HTTP/1.1 102 Processing\r\n\r\n"

_TABLE: Final = (
    (re.compile(r"^(?:undici|node|aria2)\b", re.IGNORECASE), PROCESSING),
    (
        re.compile(r"hf_hub/|huggingface_hub/|python-requests/|python-httpx2?/|^modelscope|^curl/|^Wget/1\.", re.IGNORECASE),
        CONTINUE,
    ),
)


def interim_response(user_agent: str | None, http_version: str) -> bytes:
    """What to send while a client waits; nothing where silence is safer."""
    if user_agent is None or http_version < "1.1":
        return b""
    return next((response for pattern, response in _TABLE if pattern.search(user_agent)), b"")
