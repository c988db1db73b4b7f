"""The Hugging Face dialect, write side: repos made, files taken in parts by the storage host, commits made of them."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final
from urllib.parse import unquote

from p2pmodel.content import RepoKind
from p2pmodel.demo import git_push
from p2pmodel.demo.cdn import Cdn
from p2pmodel.demo.exchange import Answer, RefusedError, Request, Route, json_answer
from p2pmodel.demo.repos import Content, HubRepo, lfs_by_name_or_size
from p2pmodel.demo.shelf import Shelf
from p2pmodel.demo.xet import XetStorage

_NAME: Final = r"(?P<name>[^/]+(?:/[^/]+)?)"
_API: Final = rf"/api/(?P<kind>models|datasets|spaces|kernels)/{_NAME}"
_GIT: Final = rf"/(?:(?P<kind>models|datasets|spaces|kernels)/)?{_NAME}"
_FIRST_FILE: Final = {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}


class Writing:
    """Routes that change the shelf. `find` gives the repo that a request is about, or ends it."""

    def __init__(self, shelf: Shelf, storage: Cdn, find: Callable[[Request, dict[str, str]], HubRepo]) -> None:
        self._shelf = shelf
        self._storage = storage
        self._find = find
        self.xet = XetStorage(storage)
        self.part_bytes = 5_000_000  # files that are larger come in parts of this many bytes, where a client can do that
        self.routes: Final = (
            Route.of("hf create", "POST", r"/api/repos/create", self._create),
            Route.of("hf delete", "DELETE", r"/api/repos/delete", self._delete),
            Route.of("hf validate-yaml", "POST", r"/api/validate-yaml", self._validate),
            Route.of("hf preupload", "POST", rf"{_API}/preupload/(?P<rest>.+)", self._preupload),
            Route.of("hf branch", "POST DELETE", rf"{_API}/branch/(?P<rest>.+)", self._branch),
            Route.of("hf tag", "POST DELETE", rf"{_API}/tag/(?P<rest>.+)", self._tag),
            Route.of("hf xet-write", "GET", rf"{_API}/xet-write-token/(?P<rest>.+)", self._xet_token),
            Route.of("hf commit", "POST", rf"{_API}/commit/(?P<rest>.+)", self._commit),
            Route.of("hf lfs-batch", "POST", rf"{_GIT}/info/lfs/objects/batch", self._batch),
            Route.of("hf lfs-verify", "POST", rf"{_GIT}/info/lfs/verify", self._verify),
            Route.of("hf git-push", "POST", rf"{_GIT}/git-receive-pack", self._push),
            Route.of("hf lfs-complete", "POST", r"/api/complete-multipart/(?P<sha256>[0-9a-f]{64})", self._complete),
        )

    # Repos and revisions

    def _create(self, request: Request, _: dict[str, str]) -> Answer:
        user, asked = self._writer(request), _json(request)
        kind, name = RepoKind(asked.get("type") or "model"), f"{asked.get('organization') or user}/{asked['name']}"
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        about = {"url": f"{request.base_url}/{'' if kind is RepoKind.MODEL else f'{kind}s/'}{name}", "name": name, "id": name}
        repo = HubRepo(kind, name, private=private)
        try:
            self._shelf.put(repo)
        except ValueError:
            return json_answer(409, {"error": "You already created this repo", **about})
        repo.commit(_FIRST_FILE, title="initial commit")
        return json_answer(200, about)

    def _delete(self, request: Request, _: dict[str, str]) -> Answer:
        user, asked = self._writer(request), _json(request)
        key = RepoKind(asked.get("type") or "model"), f"{asked.get('organization') or user}/{asked['name']}"
        if self._shelf.repos.pop(key, None) is None:
            return json_answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        return json_answer(200, {})

    def _branch(self, request: Request, parts: dict[str, str]) -> Answer:
        repo, name = self._repo(request, parts), unquote(parts["rest"])
        if request.method == "DELETE":
            return json_answer(200 if repo.branches.pop(name, None) else 404, {})
        if name in repo.branches:
            return json_answer(409, {"error": "Reference already exists"})
        start = repo.resolve(_json(request).get("startingPoint") or "HEAD")
        if start is None:
            return json_answer(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        repo.branches[name] = start.id
        return json_answer(201, {})

    def _tag(self, request: Request, parts: dict[str, str]) -> Answer:
        repo, at = self._repo(request, parts), unquote(parts["rest"])
        if request.method == "DELETE":
            return json_answer(200 if repo.tags.pop(at, None) else 404, {})
        try:
            repo.tag(_json(request)["tag"], at)
        except KeyError:
            return json_answer(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        return json_answer(201, {})

    def _validate(self, request: Request, _: dict[str, str]) -> Answer:  # noqa: ARG002  # a route's shape
        return json_answer(200, {"errors": [], "warnings": []})

    # Files

    def _preupload(self, request: Request, parts: dict[str, str]) -> Answer:
        repo = self._repo(request, parts)
        commit = repo.resolve(unquote(parts["rest"]))
        files = []
        for file in _json(request)["files"]:
            large = lfs_by_name_or_size(file["path"], file["size"])
            known = commit.files.get(file["path"]) if commit else None
            mode = "lfs" if large else "regular"
            files.append(
                {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": known.etag if known else None}
            )
        return json_answer(200, {"files": files, "commitOid": commit.id if commit else None})

    def _batch(self, request: Request, parts: dict[str, str]) -> Answer:
        """https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md, and the hub's own transfer in parts."""
        asked = _json(request)
        upload = asked["operation"] == "upload"
        repo = self._repo(request, parts) if upload else self._find(request, _without_git(parts))
        in_parts = "multipart" in asked.get("transfers", [])
        objects = [
            self._wanted(request, repo, one["oid"], one["size"], in_parts=in_parts)
            if upload
            else self._given(repo, one["oid"], one["size"])
            for one in asked["objects"]
        ]
        transfer = "multipart" if any("chunk_size" in str(one) for one in objects) else "basic"
        return json_answer(
            200, {"transfer": transfer, "objects": objects}, {"Content-Type": "application/vnd.git-lfs+json; charset=utf-8"}
        )

    def _wanted(self, request: Request, repo: HubRepo, oid: str, size: int, *, in_parts: bool) -> dict[str, Any]:
        entry: dict[str, Any] = {"oid": oid, "size": size}
        if self._came(repo, oid) is not None:
            return entry
        verify: dict[str, Any] = {"href": f"{request.base_url}{request.path.removesuffix('objects/batch')}verify"}
        verify["header"] = {"Authorization": request.headers["authorization"]}  # git-lfs adds none of its own to such a place
        if in_parts and size > self.part_bytes:
            urls = [self._storage.upload_url(oid, number) for number in range(1, -(-size // self.part_bytes) + 1)]
            header = {"chunk_size": str(self.part_bytes)} | {f"{number:05}": url for number, url in enumerate(urls, 1)}
            href = f"{request.base_url}/api/complete-multipart/{oid}"
            upload: dict[str, Any] = {"href": href, "header": header}
        else:
            upload = {"href": self._storage.upload_url(oid, 0)}
        return entry | {"authenticated": True, "actions": {"upload": upload, "verify": verify}}

    def _given(self, repo: HubRepo, oid: str, size: int) -> dict[str, Any]:
        found = next((file for commit in repo.commits.values() for file in commit.files.values() if file.etag == oid), None)
        if found is None:
            return {"oid": oid, "size": size, "error": {"code": 404, "message": "Object does not exist on the server"}}
        href = self._storage.signed_url(repo.label(found.path), found)
        return {"oid": oid, "size": size, "authenticated": True, "actions": {"download": {"href": href}}}

    def _verify(self, request: Request, parts: dict[str, str]) -> Answer:
        self._repo(request, parts)
        asked = _json(request)
        content = self._storage.uploaded.get(asked["oid"])
        right = content is not None and content.size == asked["size"]
        return json_answer(200, {}) if right else json_answer(404, {"error": "that object did not come"})

    def push_refs(self, request: Request, parts: dict[str, str]) -> Answer:
        """Where git begins a push."""
        kind = {"Content-Type": "application/x-git-receive-pack-advertisement", "Cache-Control": "no-cache"}
        return Answer(200, kind, git_push.advertisement(self._repo(request, parts)))

    def _push(self, request: Request, parts: dict[str, str]) -> Answer:
        repo, zipped = self._repo(request, parts), request.headers.get("content-encoding") == "gzip"
        try:
            report = git_push.receive_pack(repo, request.body, partial(self._came, repo), zipped=zipped)
        except (ValueError, IndexError, zlib.error) as error:
            return json_answer(400, {"error": str(error)})
        return Answer(200, {"Content-Type": "application/x-git-receive-pack-result", "Cache-Control": "no-cache"}, report)

    def _came(self, repo: HubRepo, oid: str) -> Content | None:
        return self._storage.uploaded.get(oid) or _content_of(repo, oid)

    def _xet_token(self, request: Request, parts: dict[str, str]) -> Answer:
        self._repo(request, parts)
        return self.xet.token(request, self._writer(request))

    def _complete(self, request: Request, parts: dict[str, str]) -> Answer:
        asked = _json(request)
        etags = [part["etag"] for part in sorted(asked["parts"], key=lambda part: int(part["partNumber"]))]
        if self._storage.join(parts["sha256"], etags):
            return json_answer(200, {})
        return json_answer(400, {"error": "the parts are not those that came, or not that file's"})

    def _commit(self, request: Request, parts: dict[str, str]) -> Answer:
        repo, branch = self._repo(request, parts), unquote(parts["rest"])
        if repo.resolve(branch) is None:
            return json_answer(404, {"error": f"Invalid rev id: {branch}"}, {"X-Error-Code": "RevisionNotFound"})
        title, changes = "", dict[str, bytes | Content | None]()
        for key, value in _lines(request):
            if key == "header":
                title = value["summary"]
            elif key == "deletedFolder":
                changes |= {path: None for path in repo.head.files if path.startswith(value["path"].strip("/") + "/")}
            else:
                changes[value["path"]] = self._change(repo, key, value)
        number = len(repo.pull_requests) + 1
        if request.flag("create_pr"):
            branch = f"refs/pr/{number}"
        commit = repo.commit(changes, branch=branch, title=title)
        answer = {"success": True, "commitOid": commit, "commitUrl": f"{request.base_url}/{repo.name}/commit/{commit}"}
        if request.flag("create_pr"):
            answer["pullRequestUrl"] = f"{request.base_url}/{repo.name}/discussions/{number}"
        return json_answer(200, answer)

    def _change(self, repo: HubRepo, key: str, value: dict[str, Any]) -> bytes | Content | None:
        if key == "deletedFile":
            return None
        if key == "file":
            return base64.b64decode(value["content"])
        content = self._came(repo, value["oid"])
        if content is None:
            raise RefusedError(json_answer(400, {"error": f"{value['path']} points to an object that did not come"}))
        return content

    # Who asks, and about what

    def _writer(self, request: Request) -> str:
        user = self._shelf.user(request.token)
        if user is None:
            raise RefusedError(json_answer(401, {"error": "Invalid username or password."}, _CHALLENGE))
        return user.name

    def _repo(self, request: Request, parts: dict[str, str]) -> HubRepo:
        self._writer(request)
        repo = self._find(request, _without_git(parts))
        if not self._shelf.granted(request.token, repo):
            raise RefusedError(json_answer(403, {"error": "You have no right to write here."}))
        return repo


_CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="Authentication required"'}


def _without_git(parts: dict[str, str]) -> dict[str, str]:
    return {**parts, "name": parts["name"].removesuffix(".git")}


def _content_of(repo: HubRepo, sha256: str) -> Content | None:
    files = (file for commit in repo.commits.values() for file in commit.files.values())
    return next((file.content for file in files if file.content.sha256 == sha256), None)


def _json(request: Request) -> dict[str, Any]:
    try:
        value = json.loads(request.body or b"{}")
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise RefusedError(json_answer(400, {"error": "expected JSON"}))
    return value


def _lines(request: Request) -> Iterator[tuple[str, dict[str, Any]]]:
    for line in request.body.splitlines():
        value = json.loads(line)
        yield value["key"], value["value"]
