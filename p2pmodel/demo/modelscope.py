"""The ModelScope dialect: envelopes, listings by file and by page, files by query, sessions by cookie; writes stand in
modelscope_writing.py."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote

from p2pmodel.content import RepoKind
from p2pmodel.demo.exchange import Answer, RefusedError, Request, Route, file_answer, json_answer, route
from p2pmodel.demo.modelscope_writing import ModelScopeWriting
from p2pmodel.demo.repos import Commit, Directory, HubFile, HubRepo
from p2pmodel.demo.shelf import Shelf

_REPO: Final = r"(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)"
_OPEN_PAGE: Final = 10
_TREE_PAGE: Final = 100
_BAD_TOKEN: Final = 10010103009
_BRANCH: Final = "master"  # what ModelScope calls main


class ModelScope:
    """Routes over a shelf of repos; `cdn_url` signs the place where a file's bytes are (None: send them here)."""

    def __init__(self, shelf: Shelf, cdn_url: Callable[[str, HubFile], str | None]) -> None:
        self._shelf = shelf
        self._cdn_url = cdn_url
        self.files_max: int | None = None  # 3000 truncates listings silently, as modelscope.cn does
        self.small_files_ranged = True  # False ignores Range on files outside LFS, as modelscope.cn does
        self._writing = ModelScopeWriting(shelf, find=self._repo, envelope=_enveloped, refuse=_refused)
        self._routes = (
            Route.of("ms acceleration", "GET", r"/api/v1/repos/internalAccelerationInfo", self._acceleration),
            Route.of("ms login", "POST", r"/api/v1/login", self._login),
            Route.of("ms list", "PUT", r"/api/v1/models/?", self._list),
            Route.of("ms files", "GET", rf"/api/v1/{_REPO}/repo/files", self._files),
            Route.of("ms tree", "GET", r"/api/v1/(?P<kind>datasets)/(?P<name>[0-9]{1,18})/repo/tree", self._tree),
            Route.of("ms tree", "GET", rf"/api/v1/{_REPO}/repo/tree", self._tree),
            Route.of("ms file", "GET HEAD", rf"/api/v1/{_REPO}/repo", self._file),
            Route.of("ms revisions", "GET", rf"/api/v1/{_REPO}/revisions", self._revisions),
            Route.of("ms commits", "GET", rf"/api/v1/{_REPO}/commits", self._commits),
            Route.of("ms counter", "POST", rf"/api/v1/{_REPO}/download/.+", self._counted),
            Route.of("ms info", "GET", rf"/api/v1/{_REPO}", self._info),
            Route.of("ms openapi user", "GET", r"/openapi/v1/users/me", self._open_user),
            Route.of("ms openapi info", "GET", rf"/openapi/v1/{_REPO}", self._open_info),
            Route.of("ms openapi list", "GET", r"/openapi/v1/(?P<kind>models|datasets)", self._open_list),
        )

    def answer(self, request: Request) -> Answer:
        return route((*self._writing.routes, *self._routes), request)

    # Files.

    def _file(self, request: Request, parts: dict[str, str]) -> Answer:
        repo, commit = self._located(request, parts)
        self._check_gate(request, repo)
        path = request.asked("FilePath")
        file = commit.files.get(path)
        if file is None:
            raise _refused(request, 404, f"the file {path!r} does not exist in {repo.name}")
        headers = {
            "X-Linked-ETag": f'"{file.content.sha256}"',
            "X-Linked-Size": str(file.content.size),
            "X-Repo-Commit": commit.id,
            "ETag": f'"{file.content.sha256}"',
        }
        if file.lfs and (url := self._cdn_url(repo.label(path), file)) is not None:
            del headers["ETag"]
            return json_answer(302, "", headers | {"Location": url})
        ranges = file.lfs or self.small_files_ranged
        return file_answer(request, file.content, repo.label(path), headers, ranges=ranges)

    def _files(self, request: Request, parts: dict[str, str]) -> Answer:
        _, commit, entries = self._listed(request, parts)
        return _enveloped(request, {"Files": [_entry(commit, entry) for entry in entries[: self.files_max]]})

    def _tree(self, request: Request, parts: dict[str, str]) -> Answer:
        _, commit, entries = self._listed(request, parts)
        size = max(1, request.number("PageSize", _TREE_PAGE))
        start = (max(1, request.number("PageNumber", 1)) - 1) * size
        page = [_entry(commit, entry) for entry in entries[start : start + size]]
        return _enveloped(request, {"Files": page, "TotalCount": len(entries)})

    # Records.

    def _revisions(self, request: Request, parts: dict[str, str]) -> Answer:
        repo = self._repo(request, parts)
        value = {"Branches": _refs_of(repo, repo.branches), "Tags": _refs_of(repo, repo.tags)}
        return _enveloped(request, {"RevisionMap": value})

    def _info(self, request: Request, parts: dict[str, str]) -> Answer:
        return _enveloped(request, _record(self._repo(request, parts)))

    def _list(self, request: Request, parts: dict[str, str]) -> Answer:  # noqa: ARG002  # a route's shape
        try:
            asked = json.loads(request.body)
            owner, page, size = asked["Path"], int(asked.get("PageNumber", 1)), int(asked.get("PageSize", _OPEN_PAGE))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _refused(request, 400, "expected Path, PageNumber and PageSize") from None
        repos = [repo for repo in self._shelf.visible(RepoKind.MODEL, request.token) if repo.owner == owner]
        page_of = repos[(page - 1) * size : page * size]
        return _enveloped(request, {"Models": [_record(repo) for repo in page_of], "TotalCount": len(repos)})

    def _commits(self, request: Request, parts: dict[str, str]) -> Answer:
        repo = self._repo(request, parts)
        history = list(self._commit(request, repo, request.asked("Ref", _BRANCH)).history())
        size = max(1, request.number("PageSize", _TREE_PAGE))
        start = (max(1, request.number("PageNumber", 1)) - 1) * size
        value = [
            {"Id": one.id, "ShortId": one.id[:8], "Title": one.title, "Message": one.title, "CommittedDate": _seconds(one)}
            for one in history[start : start + size]
        ]
        return _enveloped(request, {"Commit": value, "TotalCount": len(history)})

    def _acceleration(self, request: Request, parts: dict[str, str]) -> Answer:  # noqa: ARG002  # a route's shape
        return _enveloped(request, {"InternalRegionQueryAddress": ""})

    def _counted(self, request: Request, parts: dict[str, str]) -> Answer:
        self._repo(request, parts)
        return _enveloped(request, {})

    # Sessions.

    def _login(self, request: Request, parts: dict[str, str]) -> Answer:  # noqa: ARG002  # a route's shape
        try:
            token = json.loads(request.body)["AccessToken"]
        except (ValueError, KeyError, TypeError):
            token = None
        user = self._shelf.user(token) if isinstance(token, str) else None
        if user is None:
            raise _refused(request, 400, "the access token is not valid", code=_BAD_TOKEN)
        value = {"AccessToken": token, "Username": user.name, "Email": f"{user.name}@example.org"}
        return _enveloped(request, value).altered(Set_Cookie=f"m_session_id={token}; Path=/")

    def _open_user(self, request: Request, parts: dict[str, str]) -> Answer:  # noqa: ARG002  # a route's shape
        user = self._shelf.user(request.token)
        if user is None:
            return _open_refusal(request, 401, "Unauthorized")
        return _open(request, {"username": user.name, "email": f"{user.name}@example.org"})

    def _open_info(self, request: Request, parts: dict[str, str]) -> Answer:
        repo = self._find(request, parts)
        return _open_refusal(request, 404, "ResourceNotFound") if repo is None else _open(request, _open_record(repo))

    def _open_list(self, request: Request, parts: dict[str, str]) -> Answer:
        owner, wanted = request.asked("owner"), request.asked("search").lower()
        repos = [
            repo
            for repo in self._shelf.visible(RepoKind(parts["kind"].removesuffix("s")), request.token)
            if owner in {"", repo.owner} and wanted in repo.name.lower()
        ]
        page, size = max(1, request.number("page_number", 1)), max(1, request.number("page_size", _OPEN_PAGE))
        page_of = [_open_record(repo) for repo in repos[(page - 1) * size : page * size]]
        return _open(request, {parts["kind"]: page_of, "total_count": len(repos), "page_number": page, "page_size": size})

    # What a request is about, or why it ends here.

    def _find(self, request: Request, parts: dict[str, str]) -> HubRepo | None:
        kind, name = RepoKind(parts["kind"].removesuffix("s")), unquote(parts["name"])
        if name.isdecimal():
            repo = next((one for one in self._shelf.repos.values() if one.kind is kind and one.number == int(name)), None)
        else:
            repo = self._shelf.find(kind, name)
        return repo if repo is None or not repo.private or self._shelf.granted(request.token, repo) else None

    def _repo(self, request: Request, parts: dict[str, str]) -> HubRepo:
        repo = self._find(request, parts)
        if repo is None:  # a private repo too: 404 is what every client version copes with
            raise _refused(request, 404, f"the repo {unquote(parts['name'])} does not exist")
        return repo

    def _located(self, request: Request, parts: dict[str, str]) -> tuple[HubRepo, Commit]:
        repo = self._repo(request, parts)
        return repo, self._commit(request, repo, request.asked("Revision") or _BRANCH)

    def _listed(self, request: Request, parts: dict[str, str]) -> tuple[HubRepo, Commit, list[HubFile | Directory]]:
        repo, commit = self._located(request, parts)
        entries = commit.listing(request.asked("Root").strip("/"), recursive=request.flag("Recursive"))
        if entries is None:
            raise _refused(request, 404, f"the directory {request.asked('Root')!r} does not exist in {repo.name}")
        return repo, commit, entries

    @staticmethod
    def _commit(request: Request, repo: HubRepo, revision: str) -> Commit:
        commit = repo.resolve(revision)
        if commit is None:
            raise _refused(request, 404, f"the revision {revision!r} does not exist in {repo.name}")
        return commit

    def _check_gate(self, request: Request, repo: HubRepo) -> None:
        if repo.gated and not self._shelf.granted(request.token, repo):
            raise _refused(request, 403, f"access to {repo.name} has to be asked for")


def _entry(commit: Commit, entry: HubFile | Directory) -> dict[str, Any]:
    file = entry if isinstance(entry, HubFile) else None
    touched = next(one for one in commit.history() if one.id == entry.commit)
    return {
        "Name": entry.path.rpartition("/")[2],
        "Path": entry.path,
        "Type": "blob" if file else "tree",
        "Size": file.content.size if file else 0,
        "Sha256": file.content.sha256 if file else "",
        "Revision": entry.commit,
        "CommittedDate": _seconds(touched),
        "CommitMessage": touched.title,
        "CommitterName": "demo",
        "IsLFS": file is not None and file.lfs,
        "InCheck": False,
        "Mode": "100644" if file else "40000",
    }


def _record(repo: HubRepo) -> dict[str, Any]:
    owner, _, name = repo.name.rpartition("/")
    return {
        "Id": repo.number,
        "Name": name,
        "Path": owner,
        "Owner": owner,
        "Namespace": owner,
        "Type": 4,  # a plain repo: other formations make MsDataset look for scripts
        "Visibility": 1 if repo.private else 5,
        "Revision": _BRANCH,
        "LastUpdatedTime": _seconds(repo.head),
        "License": "Apache License 2.0",
    }


def _open_record(repo: HubRepo) -> dict[str, Any]:
    record = {"id": repo.name, "name": repo.name, "owner": repo.owner, "visibility": "private" if repo.private else "public"}
    return {**record, "last_modified": repo.head.date.isoformat(), "downloads": 0, "likes": 0, "tags": []}


def _refs_of(repo: HubRepo, named: Mapping[str, str]) -> list[dict[str, Any]]:
    """Newest first; main goes by its ModelScope name."""
    newest_first = sorted(named.items(), key=lambda item: repo.commits[item[1]].date, reverse=True)
    return [
        {"Revision": _BRANCH if name == "main" else name, "CreatedAt": _seconds(repo.commits[commit]), "CommitId": commit}
        for name, commit in newest_first
    ]


def _seconds(commit: Commit) -> int:
    return int(commit.date.timestamp())


def _request_id(request: Request) -> str:
    return hashlib.sha256(f"{request.method} {request.target}".encode()).hexdigest()[:32]


def _enveloped(request: Request, data: Any) -> Answer:  # noqa: ANN401  # JSON
    envelope = {"Code": 200, "Success": True, "Message": "success", "RequestId": _request_id(request), "Data": data}
    return json_answer(200, envelope)


def _refused(request: Request, status: int, message: str, *, code: int | None = None) -> RefusedError:
    envelope = {"Code": code or 10010200000 + status, "Success": False, "Message": message, "RequestId": _request_id(request)}
    return RefusedError(json_answer(status, {**envelope, "Data": None}))


def _open(request: Request, data: Any) -> Answer:  # noqa: ANN401  # JSON
    return json_answer(200, {"success": True, "request_id": _request_id(request), "data": data})


def _open_refusal(request: Request, status: int, code: str) -> Answer:
    return json_answer(status, {"success": False, "code": code, "message": code, "request_id": _request_id(request)})
