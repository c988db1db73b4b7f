"""What the router needs to know of a hub's way of speaking."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol

from p2pmodel.content import Blob, BlobId, FileEntry, Hub, Repo
from p2pmodel.errors import P2pmodelError, WrongAnswerError
from p2pmodel.limits import KIB, LISTING_BYTES_MAX
from p2pmodel.upstream.client import Answer, Client, Headers
from p2pmodel.upstream.url import Url

_PAGE_BYTES_MIN: Final = 64 * KIB  # what a page counts for at least: 1,000 pages of 200 files are enough


@dataclass(frozen=True, slots=True)
class Listing:
    """A repo at a commit, as a hub lists it for one credential. `open` is False where files may want more than listings."""

    commit: str
    files: tuple[FileEntry, ...]
    entries: bytes  # the hub's own entries, a JSON array, Xet triggers removed
    open: bool
    info: bytes | None = None  # what it says of the repo as a whole, where the same answer says it


class Dialect(Protocol):
    """Errors of all verbs: NotFoundError and its kinds, NotAuthorisedError; what `Client` raises passes through."""

    hub: Hub

    def credentials(self, token: str) -> Headers: ...

    async def listing(self, client: Client, repo: Repo, revision: str, token: str | None) -> Listing:
        """Complete, or an error."""

    async def commit(self, client: Client, repo: Repo, revision: str, token: str | None) -> tuple[str, bool]:
        """And whether the repo is open, as far as that question tells."""

    async def info(self, client: Client, repo: Repo, revision: str, token: str | None) -> bytes: ...

    async def revisions(self, client: Client, repo: Repo, token: str | None) -> bytes: ...

    async def may_read(self, client: Client, repo: Repo, commit: str, path: str, token: str | None) -> bool: ...

    async def xet_root(self, client: Client, repo: Repo, commit: str, path: str, token: str | None, blob: Blob) -> bytes | None:
        """Of the file, where the hub says that it is this blob. Raises as `Client.open` only."""

    def file_target(self, repo: Repo, commit: str, path: str) -> str: ...

    def refusal(self, what: str, status: int, headers: Mapping[str, str], *, had_token: bool) -> P2pmodelError:
        """What an answer that is no success means, where a file was asked for. `what` names it for a person."""


def file_entry(path: object, size: object, algorithm: str, digest: object) -> FileEntry:
    """A file of a listing, checked. Raises WrongAnswerError: a listing that cannot be taken whole is not taken."""
    try:
        size = operator.index(size)  # type: ignore[arg-type]  # which is what is found out here
        blob = Blob(BlobId.parse(f"{algorithm}:{digest}"), size) if digest else None
        return FileEntry(str(path), size, blob)
    except (TypeError, ValueError) as error:
        raise WrongAnswerError(
            f"The hub lists a file that cannot be kept here: {error}.",
            next_step="Ask the owner of the repo to rename or mend it, or read the rest straight from the hub.",
        ) from None


def gives(answer: Answer, asked: Url) -> bool:
    """Whether an answer where a file was asked for is that file, or leads to it. What leads elsewhere names the file's content
    in any hub's answer; else it may lead to where people log in."""
    if answer.status < HTTPStatus.MULTIPLE_CHOICES and answer.url == asked:
        return True
    return answer.status < HTTPStatus.BAD_REQUEST and answer.stated_hash != ""


def without_xet(value: Any) -> Any:  # noqa: ANN401  # JSON
    """JSON without the fields that make clients look for a Xet server, which we are not. Raises WrongAnswerError."""
    try:
        return _without_xet(value)
    except RecursionError:
        raise WrongAnswerError("The hub answers JSON that is nested too deep.") from None


def _without_xet(value: Any) -> Any:  # noqa: ANN401  # JSON
    if isinstance(value, dict):
        return {key: _without_xet(item) for key, item in value.items() if not key.lower().startswith("xet")}
    return [_without_xet(item) for item in value] if isinstance(value, list) else value


class Budget:
    """How many bytes the pages of one listing may have together; as none is free, no listing goes on for ever."""

    def __init__(self) -> None:
        self._left = LISTING_BYTES_MAX

    def spend(self, page: bytes) -> None:
        """Raises WrongAnswerError."""
        self._left -= max(len(page), _PAGE_BYTES_MIN)
        if self._left < 0:
            raise WrongAnswerError("The hub's listing does not come to an end.")
