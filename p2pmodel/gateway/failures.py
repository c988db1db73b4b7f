"""Errors as each dialect's clients understand them: one table from error to status and code, one body per dialect.

What matters to clients (contracts seen in their sources): huggingface_hub looks at X-Error-Code before anything else and
takes a 404 without one for an outage; a bare 401 over plain http means nothing to it, so a repo that must not be seen is
"not found". ModelScope's clients show `Message` in the terminal and need `RequestId` on errors too.
"""

from __future__ import annotations

import math
import uuid
from typing import Final

import msgspec

from p2pmodel.errors import (
    ConfigError,
    EntryNotFoundError,
    GatedRepoError,
    NotAuthorisedError,
    NotFoundError,
    OfflineError,
    P2pmodelError,
    RateLimitedError,
    RepoNotFoundError,
    RevisionNotFoundError,
    SourceError,
    StoreError,
    StoreFullError,
    UnavailableError,
)
from p2pmodel.gateway.response import JSON, TEXT, Header, Response, json_response

#: The first line that fits decides: the most particular error stands first.
_TABLE: Final[tuple[tuple[type[P2pmodelError], int, str], ...]] = (
    (RepoNotFoundError, 404, "RepoNotFound"),
    (RevisionNotFoundError, 404, "RevisionNotFound"),
    (EntryNotFoundError, 404, "EntryNotFound"),
    (NotFoundError, 404, "RepoNotFound"),
    (GatedRepoError, 403, "GatedRepo"),
    (NotAuthorisedError, 401, "RepoNotFound"),
    (RateLimitedError, 429, ""),
    (OfflineError, 424, ""),  # Failed Dependency: clients repeat a 5xx for half a minute, and look into their cache for this
    (UnavailableError, 504, ""),
    (StoreFullError, 507, ""),
    (StoreError, 500, ""),
    (SourceError, 502, ""),
    (ConfigError, 400, ""),
    (P2pmodelError, 500, ""),
)


def sentence(error: P2pmodelError) -> str:
    """What a person reads: what went wrong and what to do."""
    return f"{error} {error.next_step}".strip()


def _look_up(error: P2pmodelError) -> tuple[int, str]:
    return next((status, code) for kind, status, code in _TABLE if isinstance(error, kind))


def _patience(error: P2pmodelError) -> list[Header]:
    return [("Retry-After", str(math.ceil(error.retry_after_s)))] if isinstance(error, RateLimitedError) else []


def huggingface_failure(error: P2pmodelError) -> Response:
    status, code = _look_up(error)
    headers = _patience(error)
    headers.append(("X-Error-Message", _header_text(sentence(error))))
    if code:
        headers.append(("X-Error-Code", code))
    if isinstance(error, EntryNotFoundError) and error.commit:
        headers.append(("X-Repo-Commit", error.commit))  # clients remember per commit which optional files are missing
    return json_response({"error": sentence(error)}, status, headers)


def git_failure(error: P2pmodelError) -> Response:
    """Git shows its user plain text and nothing else."""
    said = sentence(error)
    if isinstance(error, UnavailableError):
        said += " Git's history is only at the hub; `p2pmodel fetch` gives the files that this cluster holds."
    return Response(_look_up(error)[0], (TEXT, *_patience(error)), said.encode())


def modelscope_failure(error: P2pmodelError) -> Response:
    status = _look_up(error)[0]
    if status in {401, 424}:  # 404 is the one answer that every version survives, and takes for the last word
        status = 404
    return Response(status, (JSON, *_patience(error)), modelscope_envelope(None, code=status, message=sentence(error)))


def modelscope_envelope(data: bytes | None, *, code: int = 200, message: str = "success") -> bytes:
    """Every JSON answer of ModelScope's API around `data`, which is JSON already."""
    success = code == 200  # noqa: PLR2004  # HTTP's OK, as the clients compare it
    head = msgspec.json.encode({"Code": code, "Success": success, "Message": message, "RequestId": str(uuid.uuid4())})
    return head if data is None else head[:-1] + b',"Data":' + data + b"}"


def plain_failure(error: P2pmodelError) -> Response:
    return json_response({"error": sentence(error)}, _look_up(error)[0], _patience(error))


def _header_text(text: str) -> str:
    """A header takes one line of ASCII, without the control characters that a name or a revision may quote."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(plain.encode("ascii", "replace").decode().split())
