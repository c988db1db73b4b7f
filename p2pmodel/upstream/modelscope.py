"""The dialect of modelscope.cn: envelopes, listings that are cut at 3000 entries, files by query.

What names a commit: the first of the branch's commits, if the hub lists them; else the newest commit that any entry of
the listing says it was last touched by. The hub takes either as a Revision, so a snapshot stays pinned. In the second case
a commit that only deletes files goes unnoticed until the next one.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import msgspec

from p2pmodel.content import FileEntry, Hub, Repo, RepoKind
from p2pmodel.errors import (
    EntryNotFoundError,
    NotAuthorisedError,
    P2pmodelError,
    RepoNotFoundError,
    RevisionNotFoundError,
    WrongAnswerError,
)
from p2pmodel.upstream.client import Client, Document, Headers
from p2pmodel.upstream.dialect import Budget, Listing, file_entry, gives, without_xet

_CUT: Final = 3000  # the hub leaves entries beyond this many out, without a word
_PAGE: Final = 200
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_FIRST_BYTE: Final = (("Range", "bytes=0-0"),)

T = TypeVar("T")
Entry = dict[str, Any]


class _Files(msgspec.Struct):
    files: list[Entry] = msgspec.field(name="Files", default_factory=list)
    total: int | None = msgspec.field(name="TotalCount", default=None)


class _Commit(msgspec.Struct):
    id: str = msgspec.field(name="Id", default="")


class _Commits(msgspec.Struct):
    commits: list[_Commit] | None = msgspec.field(name="Commit", default=None)


class _Envelope(msgspec.Struct):
    code: int = msgspec.field(name="Code", default=200)
    data: msgspec.Raw = msgspec.field(name="Data", default=msgspec.Raw(b"null"))


class ModelScope:
    hub = Hub.MODELSCOPE

    def credentials(self, token: str) -> Headers:
        return (("Authorization", f"Bearer {token}"), ("Cookie", f"m_session_id={token}"))

    async def listing(self, client: Client, repo: Repo, revision: str, token: str | None) -> Listing:
        commit = await self._commit_named(client, repo, revision, token)
        entries = await _Walk(self, client, repo, commit or revision, token).entries()
        commit = commit or _newest(client, entries)
        files = tuple(_file_of(entry) for entry in entries if not _is_directory(entry))
        # A listing for everybody does not mean files for everybody: one is tried.
        given = token is not None or not files or await self.may_read(client, repo, commit, files[0].path, None)
        return Listing(commit, files, msgspec.json.encode(without_xet(entries)), open=given)

    async def commit(self, client: Client, repo: Repo, revision: str, token: str | None) -> tuple[str, bool]:
        """That files want more than revisions do, only a listing tells."""
        if named := await self._commit_named(client, repo, revision, token):
            return named, True
        listing = await self.listing(client, repo, revision, token)
        return listing.commit, listing.open

    async def info(self, client: Client, repo: Repo, revision: str, token: str | None) -> bytes:
        document = await self.ask(client, repo, "", {"Revision": revision}, token)
        return msgspec.json.encode(without_xet(document.decode(dict[str, Any])))

    async def revisions(self, client: Client, repo: Repo, token: str | None) -> bytes:
        target = f"{_root(repo)}/revisions"
        document = await client.document(target, token=token)
        if document.status != HTTPStatus.OK or document.decode(_Envelope).code != HTTPStatus.OK:
            raise _refusal(str(repo), document.status, had_token=token is not None)
        return bytes(document.decode(_Envelope).data)

    async def may_read(self, client: Client, repo: Repo, commit: str, path: str, token: str | None) -> bool:
        target = self.file_target(repo, commit, path)
        async with client.open("GET", target, token=token, headers=_FIRST_BYTE, leave_home=False) as answer:
            return gives(answer, client.at(target)) or answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE

    async def xet_root(self, *_: object) -> bytes | None:
        """This hub has none."""
        return None

    def file_target(self, repo: Repo, commit: str, path: str) -> str:
        return f"{_root(repo)}/repo?{urlencode({'Revision': commit, 'FilePath': path})}"

    def refusal(self, what: str, status: int, headers: Mapping[str, str], *, had_token: bool) -> P2pmodelError:
        if status == HTTPStatus.NOT_FOUND:
            return EntryNotFoundError(f"The hub has no such file: {what}.", commit=headers.get("x-repo-commit", ""))
        return _refusal(what, status, had_token=had_token)

    async def ask(self, client: Client, repo: Repo, path: str, query: Mapping[str, object], token: str | None) -> Document:
        """A JSON answer about a repo. Raises RepoNotFoundError, RevisionNotFoundError, NotAuthorisedError."""
        document = await client.document(f"{_root(repo)}{path}?{urlencode(query)}", token=token)
        status = document.status
        if status == HTTPStatus.OK:
            code = document.decode(_Envelope).code
            status = HTTPStatus.OK if code == HTTPStatus.OK else HTTPStatus.NOT_FOUND
        if status == HTTPStatus.OK:
            return document
        if status == HTTPStatus.NOT_FOUND and path:  # whether of the repo or of the revision, it does not say
            await self.ask(client, repo, "", {}, token)
            raise RevisionNotFoundError(f"{repo} has no revision {query.get('Revision', query.get('Ref'))}.")
        raise _refusal(str(repo), status, had_token=token is not None)

    async def _commit_named(self, client: Client, repo: Repo, revision: str, token: str | None) -> str | None:
        """The newest commit of a branch or tag, if the hub tells."""
        if _COMMIT.fullmatch(revision):
            return revision
        query = {"Ref": revision, "PageNumber": 1, "PageSize": 1}
        try:
            document = await self.ask(client, repo, "/commits", query, token)
        except RevisionNotFoundError:
            return None  # or the hub does not know the question: the listing will show
        newest = (_data(document, _Commits).commits or [_Commit()])[0].id
        return newest if _COMMIT.fullmatch(newest) else None


class _Walk:
    """One listing, by as many requests as it takes to have all of it."""

    def __init__(self, dialect: ModelScope, client: Client, repo: Repo, revision: str, token: str | None) -> None:
        self._ask = partial(dialect.ask, client, repo, token=token)
        self._repo = repo
        self._revision = revision
        self._budget = Budget()

    async def entries(self) -> list[Entry]:
        return await (self._paged() if self._repo.kind is RepoKind.DATASET else self._below(""))

    async def _below(self, root: str) -> list[Entry]:
        """An answer as long as the hub's cut is not believed: its directories are walked then."""
        found = await self._files(root, recursive=True)
        if len(found) < _CUT:
            return found
        here = await self._files(root, recursive=False)
        if len(here) == _CUT:
            raise WrongAnswerError(f"The hub cuts its listing of {self._repo}: {_CUT} files in one directory.")
        for directory in [entry for entry in here if _is_directory(entry)]:
            here += await self._below(str(directory.get("Path", "")))
        return here

    async def _files(self, root: str, *, recursive: bool) -> list[Entry]:
        query = {"Revision": self._revision, "Recursive": recursive} | ({"Root": root} if root else {})
        return (await self._page("/repo/files", query)).files

    async def _paged(self) -> list[Entry]:
        """The last page is the first one that is shorter than what was asked for."""
        entries: list[Entry] = []
        query = {"Revision": self._revision, "Root": "/", "Recursive": True, "PageSize": _PAGE}
        for number in itertools.count(1):
            page = await self._page("/repo/tree", query | {"PageNumber": number})
            entries += page.files
            if len(page.files) < _PAGE:
                if len(entries) < (page.total or 0):
                    raise WrongAnswerError(f"The hub lists {len(entries)} of {page.total} files of {self._repo}.")
                break
        return entries

    async def _page(self, path: str, query: Mapping[str, object]) -> _Files:
        document = await self._ask(path, query)
        self._budget.spend(document.body)
        return _data(document, _Files)


def _root(repo: Repo) -> str:
    if repo.kind not in {RepoKind.MODEL, RepoKind.DATASET} or "/" not in repo.name:
        raise RepoNotFoundError(f"ModelScope has no {repo}.")
    return f"/api/v1/{repo.kind}s/{repo.name}"


def _data(document: Document, kind: type[T]) -> T:
    """What an envelope holds. Raises WrongAnswerError."""
    return replace(document, body=bytes(document.decode(_Envelope).data)).decode(kind)


def _refusal(what: str, status: int, *, had_token: bool) -> P2pmodelError:
    if status == HTTPStatus.NOT_FOUND:
        return RepoNotFoundError(f"The hub does not know {what}, or not for this caller.")
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        refused = "refuses the token for" if had_token else "wants a token for"
        return NotAuthorisedError(f"The hub {refused} {what}.", next_step="Log in, or ask for access on its page.")
    return WrongAnswerError(f"The hub answers {status} for {what}.")


def _is_directory(entry: Entry) -> bool:
    return entry.get("Type") == "tree"


def _file_of(entry: Entry) -> FileEntry:
    return file_entry(entry.get("Path"), entry.get("Size"), "sha256", entry.get("Sha256"))


def _newest(client: Client, entries: Sequence[Entry]) -> str:
    """The newest commit that an entry was last touched by; of one date, the same one every time."""
    touched = [
        (entry["CommittedDate"], str(entry["Revision"]))
        for entry in entries
        if isinstance(entry.get("CommittedDate"), int) and _COMMIT.fullmatch(str(entry.get("Revision", "")))
    ]
    if not touched:
        raise WrongAnswerError(f"{client.home.authority} does not say which commit it lists")
    return max(touched)[1]
