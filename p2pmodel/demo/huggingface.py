"""The Hugging Face dialect as huggingface.co speaks it: redirects, Xet advertised, a bare 401 for strangers. Here the read
side; writing.py takes uploads."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote, urlencode

from p2pmodel.content import RepoKind
from p2pmodel.demo import git
from p2pmodel.demo.cdn import Cdn
from p2pmodel.demo.exchange import Answer, RefusedError, Request, Route, file_answer, json_answer, route
from p2pmodel.demo.repos import Commit, Directory, HubFile, HubRepo
from p2pmodel.demo.shelf import Shelf
from p2pmodel.demo.writing import Writing

_KINDS: Final = "models|datasets|spaces|kernels"
_NAME: Final = r"(?P<name>[^/]+(?:/[^/]+)?)"
_API: Final = rf"/api/(?P<kind>{_KINDS})/{_NAME}"
_REPO: Final = rf"/(?:(?P<kind>{_KINDS})/)?{_NAME}"
_EXPANDED_PAGE: Final = 50
_BRANCH_PREFIXES: Final = ("refs/pr/", "refs/convert/", "refs/heads/", "refs/tags/")  # these may come unquoted


class HuggingFace:
    """Routes over a shelf of repos; `cdn_url` signs the place where a file's bytes are (None: send them here)."""

    def __init__(self, shelf: Shelf, cdn_url: Callable[[str, HubFile], str | None], storage: Cdn) -> None:
        self._shelf = shelf
        self.writing = Writing(shelf, storage, self._repo)
        self._cdn_url = cdn_url
        self.xet = True  # advertise Xet, as nearly all repos of huggingface.co do
        self.page_entries = 1000  # of a tree or a search; 50 with expand
        self.hashes_in_info = True  # answer ?blobs=true, as not every mirror does
        self.resolve_cache = True  # redirect small files, as huggingface.co does
        self._routes = (
            Route.of("hf whoami", "GET", r"/api/whoami-v2", self._whoami),
            Route.of("hf search", "GET", rf"/api/(?P<kind>{_KINDS})/?", self._search),
            Route.of(
                "hf resolve-cache",
                "GET HEAD",
                rf"/api/resolve-cache/(?P<kind>\w+)/{_NAME}/(?P<rest>[0-9a-f]{{40}}/.+)",
                self._cached,
            ),
            Route.of("hf tree", "GET", rf"{_API}/tree/(?P<rest>.+)", self._tree),
            Route.of("hf paths-info", "POST", rf"{_API}/paths-info/(?P<rest>.+)", self._paths_info),
            Route.of("hf refs", "GET", rf"{_API}/refs", self._refs),
            Route.of("hf commits", "GET", rf"{_API}/commits/(?P<rest>.+)", self._commits),
            Route.of("hf parquet", "GET", r"/api/(?P<kind>datasets)/(?P<name>[^/]+(?:/[^/]+)?)/parquet", self._parquet),
            Route.of("hf git-refs", "GET", rf"{_REPO}/info/refs", self._git_refs),
            Route.of("hf git-pack", "POST", rf"{_REPO}/git-upload-pack", self._git_pack),
            Route.of("hf gguf", "GET", r"/v2/(?P<name>[^/]+/[^/]+)/manifests/(?P<tag>[^/]+)", self._gguf),
            Route.of("hf auth-check", "GET", rf"{_API}/auth-check", self._auth_check),
            Route.of("hf xet-token", "GET", rf"{_API}/xet-read-token/(?P<rest>.+)", self._no_xet),
            Route.of("hf info", "GET HEAD", rf"{_API}/revision/(?P<rest>.+)", self._info),
            Route.of("hf info", "GET HEAD", _API, self._info),
            Route.of("hf resolve", "GET HEAD", rf"{_REPO}/resolve/(?P<rest>.+)", self._resolve),
            Route.of("hf raw", "GET HEAD", rf"{_REPO}/raw/(?P<rest>.+)", self._raw),
        )

    def answer(self, request: Request) -> Answer:
        return route((*self.writing.routes, *self._routes), request)

    # Files.

    def _resolve(self, request: Request, parts: dict[str, str]) -> Answer:
        repo, commit, path = self._located(request, parts)
        self._check_gate(request, repo)
        file = _file_of(commit, path)
        headers = self._file_headers(request, repo, commit, file)
        linked = {"X-Linked-Size": str(file.content.size), "X-Linked-ETag": f'"{file.etag}"'}
        if file.lfs and (url := self._cdn_url(repo.label(path), file)) is not None:
            return json_answer(302, "", headers | linked | {"Location": url})
        if not file.lfs and self.resolve_cache and not repo.private and not repo.gated:
            place = f"/api/resolve-cache/{repo.kind}s/{repo.name}/{commit.id}/{quote(path, safe='/')}"
            query = urlencode({request.path: "", "etag": f'"{file.etag}"'})
            return json_answer(307, "", headers | linked | {"Location": f"{place}?{query}"})
        return file_answer(request, file.content, repo.label(path), headers | linked | {"ETag": f'"{file.etag}"'})

    def _cached(self, request: Request, parts: dict[str, str]) -> Answer:
        repo, commit, path = self._located(request, parts)
        file = _file_of(commit, path)
        headers = {"X-Repo-Commit": commit.id, "ETag": f'"{file.etag}"'}
        return file_answer(request, file.content, repo.label(path), headers)

    def _raw(self, request: Request, parts: dict[str, str]) -> Answer:
        """What git holds: of a large file, the pointer to it."""
        repo, commit, path = self._located(request, parts)
        self._check_gate(request, repo)
        file = _file_of(commit, path)
        about = {"X-Repo-Commit": commit.id, "ETag": f'"{file.git_oid}"', "Content-Type": "text/plain; charset=utf-8"}
        if file.lfs:
            return Answer(200, about, file.content.pointer)
        return file_answer(request, file.content, repo.label(path), about, ranges=False)

    def _parquet(self, request: Request, parts: dict[str, str]) -> Answer:
        """https://huggingface.co/docs/dataset-viewer/parquet: of the files that were converted, their URLs."""
        repo = self._repo(request, parts)
        commit = repo.resolve("refs/convert/parquet")
        start = f"{request.base_url}/datasets/{repo.name}/resolve/refs%2Fconvert%2Fparquet/"
        return json_answer(200, {"default": {"train": [start + quote(path) for path in (commit.files if commit else ())]}})

    def _gguf(self, request: Request, parts: dict[str, str]) -> Answer:
        """What llama.cpp takes a tag for: a quantisation that is in a file's name."""
        named = [path for path in self._repo(request, parts).head.files if path.endswith(".gguf")]
        tag = "" if parts["tag"] == "latest" else parts["tag"].lower()
        chosen = next((path for path in named if tag in path.lower()), None)
        if chosen is None:
            raise _refused(400, "", "The specified tag is not a valid quantization scheme.")
        return json_answer(200, {"ggufFile": {"rfilename": chosen}})

    # Git

    def _git_refs(self, request: Request, parts: dict[str, str]) -> Answer:
        if request.asked("service") == "git-receive-pack":
            return self.writing.push_refs(request, parts)
        repo = self._git_repo(request, parts)
        if request.asked("service") != "git-upload-pack":
            return json_answer(403, {"error": "only clone, fetch and push are served"})
        kind = {"Content-Type": "application/x-git-upload-pack-advertisement", "Cache-Control": "no-cache"}
        return Answer(200, kind, git.advertisement(repo))

    def _git_pack(self, request: Request, parts: dict[str, str]) -> Answer:
        repo = self._git_repo(request, parts)
        try:
            pack = git.upload_pack(repo, request.body, zipped=request.headers.get("content-encoding") == "gzip")
        except ValueError as error:
            return json_answer(400, {"error": str(error)})
        return Answer(200, {"Content-Type": "application/x-git-upload-pack-result"}, pack)

    def _git_repo(self, request: Request, parts: dict[str, str]) -> HubRepo:
        """Git shows its credential only to those who ask for it."""
        try:
            return self._repo(request, {**parts, "name": parts["name"].removesuffix(".git")})
        except RefusedError as refused:
            if refused.answer.status == HTTPStatus.UNAUTHORIZED:
                refused.answer.headers["WWW-Authenticate"] = 'Basic realm="Authentication required"'
            raise

    def _file_headers(self, request: Request, repo: HubRepo, commit: Commit, file: HubFile) -> dict[str, str]:
        headers = {"X-Repo-Commit": commit.id, "Content-Disposition": "inline"}
        if self.xet and file.lfs:
            token_url = f"{request.base_url}/api/{repo.kind}s/{repo.name}/xet-read-token/{commit.id}"
            headers["X-Xet-Hash"] = file.content.xet_hash
            headers["X-Xet-Refresh-Route"] = token_url
            headers["Link"] = f'<{token_url}>; rel="xet-auth"'
        return headers

    # The API.

    def _info(self, request: Request, parts: dict[str, str]) -> Answer:
        repo = self._repo(request, parts)
        commit = _commit_of(repo, _revision_and_path(parts["rest"])[0] if parts.get("rest") else "HEAD")
        info = _info_of(repo, commit)
        blobs = request.flag("blobs") and self.hashes_in_info
        info["siblings"] = [self._sibling(file, blobs=blobs) for file in commit.files.values()]
        if fields := request.query.get("expand"):
            info = {name: value for name, value in info.items() if name in {"_id", "id", *fields}}
        return json_answer(200, info, {"X-Repo-Commit": commit.id})

    def _tree(self, request: Request, parts: dict[str, str]) -> Answer:
        repo, commit, path = self._located(request, parts)
        entries = commit.listing(path.strip("/"), recursive=request.flag("recursive"))
        if entries is None:
            raise _entry_not_found(commit)
        expand = request.flag("expand")
        start = request.number("cursor", 0)
        limit = self._page(request, expand=expand)
        headers = {"X-Repo-Commit": commit.id}
        if start + limit < len(entries):
            headers["Link"] = _next_link(request, start + limit)
        return json_answer(200, [self._entry(repo, entry, expand=expand) for entry in entries[start : start + limit]], headers)

    def _paths_info(self, request: Request, parts: dict[str, str]) -> Answer:
        repo, commit, _ = self._located(request, parts)
        paths, expand = _asked_paths(request)
        by_path = {entry.path: entry for entry in commit.listing(recursive=True) or []}
        return json_answer(200, [self._entry(repo, by_path[path], expand=expand) for path in paths if path in by_path])

    def _refs(self, request: Request, parts: dict[str, str]) -> Answer:
        repo = self._repo(request, parts)
        value = {
            "branches": _refs_of(repo.branches, "refs/heads/"),
            "converts": [],
            "tags": _refs_of(repo.tags, "refs/tags/"),
        }
        if request.flag("include_prs"):
            value["pullRequests"] = _refs_of(repo.pull_requests, "")
        return json_answer(200, value)

    def _commits(self, request: Request, parts: dict[str, str]) -> Answer:
        repo, commit, _ = self._located(request, parts)
        self._check_gate(request, repo)
        history = list(commit.history())
        start, limit = request.number("p", 0), self._page(request)
        value = [
            {"id": one.id, "title": one.title, "message": "", "date": _date(one), "authors": [{"user": repo.owner}]}
            for one in history[start * limit : (start + 1) * limit]
        ]
        headers = {"Link": _next_link(request, start + 1, "p")} if (start + 1) * limit < len(history) else {}
        return json_answer(200, value, headers | {"X-Total-Count": str(len(history))})

    def _auth_check(self, request: Request, parts: dict[str, str]) -> Answer:
        self._check_gate(request, self._repo(request, parts))
        return json_answer(200, {})

    def _no_xet(self, request: Request, parts: dict[str, str]) -> Answer:
        self._repo(request, parts)
        return json_answer(404, {"error": "this hub has no Xet server"})

    def _whoami(self, request: Request, parts: dict[str, str]) -> Answer:  # noqa: ARG002  # a route's shape
        user = self._shelf.user(request.token)
        if user is None:
            return _unauthorised(request)
        access = {"type": "access_token", "accessToken": {"displayName": "demo", "role": "read"}}
        return json_answer(
            200, {"type": "user", "id": user.name, "name": user.name, "fullname": user.name, "orgs": [], "auth": access}
        )

    def _search(self, request: Request, parts: dict[str, str]) -> Answer:
        kind = RepoKind(parts["kind"].removesuffix("s"))
        wanted, author = request.asked("search").lower(), request.asked("author")
        repos = [
            repo
            for repo in self._shelf.visible(kind, request.token)
            if wanted in repo.name.lower() and author in {"", repo.owner}
        ]
        start, limit = request.number("cursor", 0), self._page(request)
        headers = {"Link": _next_link(request, start + limit)} if start + limit < len(repos) else {}
        return json_answer(200, [_info_of(repo, repo.head) for repo in repos[start : start + limit]], headers)

    def _page(self, request: Request, *, expand: bool = False) -> int:
        most = min(self.page_entries, _EXPANDED_PAGE) if expand else self.page_entries
        return max(1, min(request.number("limit", most), most))

    # What a request is about, or why it ends here.

    def _repo(self, request: Request, parts: dict[str, str]) -> HubRepo:
        kind, name = RepoKind((parts.get("kind") or "models").removesuffix("s")), unquote(parts["name"])
        repo = self._shelf.find(kind, name)
        if repo is None and (moved := self._shelf.moved_to(kind, name)) is not None:
            raise RefusedError(Answer(307, {"Location": request.target.replace(parts["name"], moved, 1)}))
        if repo is not None and (not repo.private or self._shelf.granted(request.token, repo)):
            return repo
        if self._shelf.user(request.token) is None:
            raise RefusedError(_unauthorised(request))
        raise _refused(404, "RepoNotFound", "Repository not found")

    def _located(self, request: Request, parts: dict[str, str]) -> tuple[HubRepo, Commit, str]:
        repo = self._repo(request, parts)
        revision, path = _revision_and_path(parts["rest"])
        return repo, _commit_of(repo, revision), path

    def _check_gate(self, request: Request, repo: HubRepo) -> None:
        if not repo.gated or self._shelf.granted(request.token, repo):
            return
        known = self._shelf.user(request.token) is not None
        raise _refused(403 if known else 401, "GatedRepo", f"Access to {repo.kind} {repo.name} is restricted.")

    # Entries of listings.

    def _entry(self, repo: HubRepo, entry: HubFile | Directory, *, expand: bool) -> dict[str, Any]:
        value: dict[str, Any] = {"type": "directory", "oid": entry.git_oid, "size": 0, "path": entry.path}
        if isinstance(entry, HubFile):
            content = entry.content
            value |= {"type": "file", "size": content.size}
            if entry.lfs:
                value["lfs"] = {"oid": content.sha256, "size": content.size, "pointerSize": len(content.pointer)}
            if entry.lfs and self.xet:
                value["xetHash"] = content.xet_hash
        if expand:
            touched = repo.commits[entry.commit]
            value["lastCommit"] = {"id": touched.id, "title": touched.title, "date": _date(touched)}
            if isinstance(entry, HubFile):
                scan = {"status": "safe"}
                value["securityFileStatus"] = {"status": "safe", "avScan": scan, "pickleImportScan": None}
        return value

    @staticmethod
    def _sibling(file: HubFile, *, blobs: bool) -> dict[str, Any]:
        value: dict[str, Any] = {"rfilename": file.path}
        if blobs:
            content = file.content
            value |= {"size": content.size, "blobId": file.git_oid}
            if file.lfs:
                value["lfs"] = {"sha256": content.sha256, "size": content.size, "pointerSize": len(content.pointer)}
        return value


def _revision_and_path(rest: str) -> tuple[str, str]:
    """Split on raw slashes, then decode: a quoted slash belongs to the revision."""
    depth = 3 if rest.startswith(_BRANCH_PREFIXES) else 1
    steps = rest.split("/")
    return unquote("/".join(steps[:depth])), unquote("/".join(steps[depth:]))


def _asked_paths(request: Request) -> tuple[list[str], bool]:
    """The paths of a form or a JSON object, and whether their commits are asked for too."""
    try:
        if request.headers.get("content-type", "").startswith("application/json"):
            asked = json.loads(request.body)
            paths, expand = asked["paths"], asked.get("expand", False)
        else:
            form = parse_qs(request.body.decode())
            paths, expand = form["paths"], form.get("expand", [""])[0].lower() in {"true", "1"}
        return [str(path) for path in ([paths] if isinstance(paths, str) else paths)], bool(expand)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RefusedError(json_answer(400, {"error": "expected paths, and perhaps expand"})) from None


def _commit_of(repo: HubRepo, revision: str) -> Commit:
    commit = repo.resolve(revision)
    if commit is None:
        raise _refused(404, "RevisionNotFound", f"Invalid rev id: {quote(revision)}")
    return commit


def _file_of(commit: Commit, path: str) -> HubFile:
    file = commit.files.get(path)
    if file is None:
        raise _entry_not_found(commit)
    return file


def _info_of(repo: HubRepo, commit: Commit) -> dict[str, Any]:
    return {
        "_id": f"{repo.number:024x}",
        "id": repo.name,
        **({"modelId": repo.name} if repo.kind is RepoKind.MODEL else {}),
        "author": repo.owner,
        "sha": commit.id,
        "createdAt": _date(list(commit.history())[-1]),
        "lastModified": _date(commit),
        "private": repo.private,
        "gated": "auto" if repo.gated else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": ["demo"],
    }


def _refs_of(named: Mapping[str, str], prefix: str) -> list[dict[str, str]]:
    return [{"name": name, "ref": prefix + name, "targetCommit": commit} for name, commit in named.items()]


def _date(commit: Commit) -> str:
    return commit.date.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _next_link(request: Request, cursor: int, name: str = "cursor") -> str:
    query = {**request.query, name: [str(cursor)]}
    return f'<{request.base_url}{request.path}?{urlencode(query, doseq=True)}>; rel="next"'


def _refused(status: int, code: str, message: str) -> RefusedError:
    marks = {"X-Error-Code": code, "X-Error-Message": message}
    return RefusedError(json_answer(status, {"error": message}, marks))


def _entry_not_found(commit: Commit) -> RefusedError:
    refused = _refused(404, "EntryNotFound", "Entry not found")
    refused.answer.headers["X-Repo-Commit"] = commit.id
    return refused


def _unauthorised(request: Request) -> Answer:
    """The bare 401: no X-Error-Code, so that nobody learns whether a private repo exists."""
    message = "Invalid credentials in Authorization header" if request.token else "Invalid username or password."
    return json_answer(
        401, {"error": message}, {"X-Error-Message": message, "WWW-Authenticate": 'Bearer realm="Authentication required"'}
    )
