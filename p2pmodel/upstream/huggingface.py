"""The dialect of huggingface.co and its mirrors: paths, listings in one answer or page by page, refusals by X-Error-Code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import msgspec

from p2pmodel.content import Blob, FileEntry, Hub, Repo, RepoKind
from p2pmodel.content.xet import xet_bytes
from p2pmodel.errors import (
    EntryNotFoundError,
    GatedRepoError,
    NotAuthorisedError,
    NotFoundError,
    P2pmodelError,
    RepoNotFoundError,
    RevisionNotFoundError,
    WrongAnswerError,
)
from p2pmodel.upstream.client import Client, Document, Headers, UnreachableError
from p2pmodel.upstream.dialect import Budget, Listing, file_entry, gives, without_xet
from p2pmodel.upstream.endpoint import OWN_HOSTS
from p2pmodel.upstream.siblings import tree_of

_PREFIXES: Final = {RepoKind.MODEL: "", RepoKind.DATASET: "datasets/", RepoKind.SPACE: "spaces/", RepoKind.KERNEL: "kernels/"}
_NEXT: Final = re.compile(r'<([^>]*)>\s*;[^,<]*\brel="?next"?')
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_ERRORS: Final[dict[str, type[P2pmodelError]]] = {
    "RevisionNotFound": RevisionNotFoundError,
    "EntryNotFound": EntryNotFoundError,
    "GatedRepo": GatedRepoError,
    "RepoNotFound": RepoNotFoundError,
}
_WITH_HASHES: Final = "?blobs=true"
_BAD_TOKEN: Final = "Invalid credentials in Authorization header"  # noqa: S105  # the hub's words about one


class _Info(msgspec.Struct):
    sha: str
    id: str = ""
    gated: bool | str = False
    private: bool = False
    siblings: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def open(self) -> bool:
        return not self.gated and not self.private


class HuggingFace:
    hub = Hub.HUGGINGFACE

    def credentials(self, token: str) -> Headers:
        return (("Authorization", f"Bearer {token}"),)

    async def listing(self, client: Client, repo: Repo, revision: str, token: str | None) -> Listing:
        """One request where the hub tells all in one answer; else its tree, page by page."""
        try:
            document = await self._info(client, repo, revision, token, _WITH_HASHES)
        except UnreachableError as error:
            if not error.slow:
                raise
            document = await self._info(client, repo, revision, token)  # of a very large repo a hub may not manage that
        about = document.decode(_Info)
        commit = _checked_commit(client, about.sha)
        told = tree_of(bytes(about.siblings))
        entries = await self._tree(client, repo, about, token) if told is None else told
        return Listing(
            commit,
            tuple(_file_of(entry) for entry in entries if entry.get("type") == "file"),
            msgspec.json.encode(without_xet(entries)),
            open=about.open,
            info=None if told is None else _rendered(document),
        )

    async def _tree(self, client: Client, repo: Repo, about: _Info, token: str | None) -> list[dict[str, Any]]:
        """Asked under its name of today, a renamed repo costs one redirect and not one a page."""
        name = about.id if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", about.id, re.ASCII) else repo.name
        entries: list[dict[str, Any]] = []
        target: str | None = f"/api/{repo.kind}s/{name}/tree/{about.sha}?recursive=true&expand=false"
        budget = Budget()
        while target is not None:
            page = await client.document(target, token=token)
            budget.spend(page.body)
            if page.status != HTTPStatus.OK:
                raise self.refusal(f"{repo} at {about.sha}", page.status, page.headers, had_token=token is not None)
            entries += page.decode(list[dict[str, Any]])
            target = _next_target(client, page)
        return entries

    async def commit(self, client: Client, repo: Repo, revision: str, token: str | None) -> tuple[str, bool]:
        about = (await self._info(client, repo, revision, token)).decode(_Info)
        return _checked_commit(client, about.sha), about.open

    async def info(self, client: Client, repo: Repo, revision: str, token: str | None) -> bytes:
        """With the sizes and hashes of all files: whoever was not asked for them leaves them out."""
        return _rendered(await self._info(client, repo, revision, token, _WITH_HASHES))

    async def revisions(self, client: Client, repo: Repo, token: str | None) -> bytes:
        document = await client.document(f"/api/{repo.kind}s/{repo.name}/refs", token=token)
        if document.status != HTTPStatus.OK:
            raise self.refusal(str(repo), document.status, document.headers, had_token=token is not None)
        return document.body

    async def may_read(self, client: Client, repo: Repo, commit: str, path: str, token: str | None) -> bool:
        target = self.file_target(repo, commit, path)
        async with client.open("HEAD", target, token=token, leave_home=False) as answer:
            return gives(answer, client.at(target))

    async def xet_root(self, client: Client, repo: Repo, commit: str, path: str, token: str | None, blob: Blob) -> bytes | None:
        target = self.file_target(repo, commit, path)
        async with client.open("HEAD", target, token=token, leave_home=False) as answer:
            if answer.status >= HTTPStatus.BAD_REQUEST or answer.stated_hash != blob.id.hex:
                return None
            try:
                return xet_bytes(answer.stated["x-xet-hash"])
            except (KeyError, ValueError):
                return None

    def file_target(self, repo: Repo, commit: str, path: str) -> str:
        return f"/{_PREFIXES[repo.kind]}{repo.name}/resolve/{quote(commit, safe='')}/{quote(path)}"

    def refusal(self, what: str, status: int, headers: Mapping[str, str], *, had_token: bool) -> P2pmodelError:
        """X-Error-Code first; a bare 401 to a stranger means "no such repo, or none of yours"."""
        code = headers.get("x-error-code", "")
        if code == "EntryNotFound":
            return EntryNotFoundError(f"The hub has no such file: {what}.", commit=headers.get("x-repo-commit", ""))
        if code == "GatedRepo":
            return GatedRepoError(f"{what} is gated.", next_step="Ask for access on its page, then use your token.")
        if code in _ERRORS:
            return _ERRORS[code](f"The hub does not know {what}.")
        if status == HTTPStatus.UNAUTHORIZED and had_token and headers.get("x-error-message") == _BAD_TOKEN:
            return NotAuthorisedError(
                f"The hub refuses the token for {what}.", next_step="Log in again: the token is not valid."
            )
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND}:
            return RepoNotFoundError(f"The hub does not know {what}, or not for this caller.")
        if status == HTTPStatus.FORBIDDEN:
            return NotAuthorisedError(f"The hub does not give {what} to this caller.")
        if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return NotFoundError(f"The hub answers {status} for {what}.")
        return WrongAnswerError(f"The hub answers {status} for {what}.")

    async def _info(self, client: Client, repo: Repo, revision: str, token: str | None, query: str = "") -> Document:
        target = f"/api/{repo.kind}s/{repo.name}/revision/{quote(revision, safe='')}{query}"
        document = await client.document(target, token=token)
        if document.status != HTTPStatus.OK:
            raise self.refusal(f"{repo} at {revision}", document.status, document.headers, had_token=token is not None)
        return document


def _rendered(about: Document) -> bytes:
    return msgspec.json.encode(without_xet(about.decode(dict[str, Any])))


def _checked_commit(client: Client, commit: str) -> str:
    if not _COMMIT.fullmatch(commit):
        raise WrongAnswerError(f"{client.home.authority} names a commit that is none")
    return commit


def _file_of(entry: dict[str, Any]) -> FileEntry:
    lfs = entry.get("lfs")
    if isinstance(lfs, dict):
        return file_entry(entry.get("path"), lfs.get("size", entry.get("size")), "sha256", lfs.get("oid"))
    return file_entry(entry.get("path"), entry.get("size"), "git-sha1", entry.get("oid"))


def _next_target(client: Client, page: Document) -> str | None:
    """Where the listing goes on, as a target of this endpoint. A mirror that hands the hub's own links on is asked itself."""
    link = _NEXT.search(page.headers.get("link", ""))
    if link is None:
        return None
    target = client.home_target(link[1])
    if target is None:
        try:
            url = page.url.join(link[1])
        except ValueError:
            url = None
        if url is None or url.host not in OWN_HOSTS[Hub.HUGGINGFACE]:
            raise WrongAnswerError(f"{client.home.authority} continues its listing on another host")
        target = url.target
    return target
