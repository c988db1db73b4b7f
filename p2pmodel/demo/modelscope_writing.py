"""The ModelScope dialect, write side: repos made, files taken in one piece by the hub itself, commits made of them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import Any, Final

from p2pmodel.content import RepoKind
from p2pmodel.demo.exchange import Answer, RefusedError, Request, Route
from p2pmodel.demo.repos import Content, HubRepo
from p2pmodel.demo.shelf import Shelf

_REPO: Final = r"(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)"
_FIRST_FILES: Final = {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n", "README.md": b"---\n---\n"}
_EXISTS: Final = 10010101001
_PRIVATE: Final = "1"  # Visibility
_FORM_FIELD: Final = re.compile(rb'name="(\w+)"\r\n(?:[^\r\n]+\r\n)*\r\n(.*?)\r\n--', re.DOTALL)

Refuse = Callable[..., RefusedError]


class ModelScopeWriting:
    """Routes that change the shelf. `find` gives the repo that a request is about, or ends it; `envelope` and `refuse` word
    the answers."""

    def __init__(
        self,
        shelf: Shelf,
        *,
        find: Callable[[Request, dict[str, str]], HubRepo],
        envelope: Callable[[Request, Any], Answer],
        refuse: Refuse,
    ) -> None:
        self._shelf = shelf
        self._find = find
        self._envelope = envelope
        self._refuse = refuse
        self._came: dict[str, Content] = {}  # whole files, by sha256
        self.routes: Final = (
            Route.of("ms create", "POST", r"/api/v1/(?P<kind>models|datasets)/?", self._create),
            Route.of("ms lfs-batch", "POST", rf"/api/v1/repos/{_REPO}/info/lfs/objects/batch", self._batch),
            Route.of("ms upload", "PUT", rf"/api/v1/repos/{_REPO}/info/lfs/objects/(?P<sha256>[0-9a-f]{{64}})", self._upload),
            Route.of("ms commit", "POST", rf"/api/v1/repos/{_REPO}/commit/(?P<branch>[^/]+)", self._commit),
            Route.of("ms tag", "POST", rf"/api/v1/{_REPO}/repo/tag", self._tag),
            Route.of("ms delete", "DELETE", rf"/api/v1/{_REPO}/(?:file|repo)", self._delete),
        )

    def _create(self, request: Request, parts: dict[str, str]) -> Answer:
        self._check_writer(request)
        asked = _fields(request)
        owner = asked.get("Path") or asked.get("Owner")
        repo = HubRepo(RepoKind(parts["kind"].removesuffix("s")), f"{owner}/{asked['Name']}")
        repo.private = str(asked.get("Visibility")) == _PRIVATE
        try:
            self._shelf.put(repo)
        except ValueError:
            raise self._refuse(request, 400, f"{repo.name} already exists", code=_EXISTS) from None
        repo.commit(_FIRST_FILES, title="initial commit")
        return self._envelope(request, {"Id": repo.number, "Name": asked["Name"], "Path": owner, "Owner": owner})

    def _batch(self, request: Request, parts: dict[str, str]) -> Answer:
        """Only what is missing is in the answer: clients up to 1.30 upload whatever is."""
        repo = self._writable(request, parts)
        missing = [one for one in json.loads(request.body)["objects"] if self._content(repo, one["oid"]) is None]
        place = f"{request.base_url}/api/v1/repos/{parts['kind']}/{repo.name}/info/lfs/objects"
        objects = [
            {**one, "actions": {"upload": {"href": f"{place}/{one['oid']}", "header": {}, "expires_in": 3600}}}
            for one in missing
        ]
        return self._envelope(request, {"transfer": "basic", "objects": objects})

    def _upload(self, request: Request, parts: dict[str, str]) -> Answer:
        self._writable(request, parts)
        content = Content.of(request.body)
        if content.sha256 != parts["sha256"]:
            raise self._refuse(request, 400, "the bytes do not have that hash")
        self._came[content.sha256] = content
        return self._envelope(request, None)

    def _commit(self, request: Request, parts: dict[str, str]) -> Answer:
        repo = self._writable(request, parts)
        asked = json.loads(request.body)
        changes = {action["path"]: self._change(request, repo, action) for action in asked["actions"]}
        branch = repo.default_branch if parts["branch"] == "master" else parts["branch"]
        return self._envelope(request, {"oid": repo.commit(changes, branch=branch, title=asked.get("commit_message", ""))})

    def _change(self, request: Request, repo: HubRepo, action: dict[str, Any]) -> bytes | Content | None:
        if action["action"] == "delete":
            return None
        if action["type"] == "normal":
            return base64.b64decode(action["content"])
        content = self._content(repo, action["sha256"])
        if content is None:
            raise self._refuse(request, 400, f"{action['path']} points to an object that did not come")
        return content

    def _tag(self, request: Request, parts: dict[str, str]) -> Answer:
        repo, asked = self._writable(request, parts), json.loads(request.body)
        try:
            repo.tag(asked["TagName"], asked["Ref"])
        except KeyError:
            raise self._refuse(request, 404, f"the revision {asked['Ref']!r} does not exist") from None
        return self._envelope(request, {})

    def _delete(self, request: Request, parts: dict[str, str]) -> Answer:
        repo = self._writable(request, parts)
        repo.commit({request.asked("FilePath"): None}, branch=repo.default_branch, title="Delete")
        return self._envelope(request, {})

    def _content(self, repo: HubRepo, sha256: str) -> Content | None:
        files = (file for commit in repo.commits.values() for file in commit.files.values())
        held = next((file.content for file in files if file.content.sha256 == sha256), None)
        return held or self._came.get(sha256)

    def _check_writer(self, request: Request) -> None:
        if self._shelf.user(request.token) is None:
            raise self._refuse(request, 401, "log in to write")

    def _writable(self, request: Request, parts: dict[str, str]) -> HubRepo:
        self._check_writer(request)
        repo = self._find(request, parts)
        if not self._shelf.granted(request.token, repo):
            raise self._refuse(request, 403, "you have no right to write here")
        return repo


def _fields(request: Request) -> dict[str, Any]:
    """Models come as JSON, datasets as a form of many parts."""
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        return {name.decode(): value.decode() for name, value in _FORM_FIELD.findall(request.body + b"\r\n")}
    return dict(json.loads(request.body))
