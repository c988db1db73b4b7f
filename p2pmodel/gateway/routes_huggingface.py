"""What Hugging Face clients ask under HF_ENDPOINT.

Files are answered by us, 200 or 206 and never a redirect: clients of different ages follow different redirects. Listings
come whole, in one page, as the hub wrote them. What we do not answer ourselves (searches, whoami, commits, uploads, …) is
handed on to the hub. Nothing of the hub's leads a client to Xet, whose storage it would then ask past us; where a client
needs Xet, it is led to our own (routes_xet.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from p2pmodel.content import Hub, Repo, RepoKind, Snapshot
from p2pmodel.delivery.ports import Delivery, Upstreams
from p2pmodel.errors import (
    EntryNotFoundError,
    NotAuthorisedError,
    NotFoundError,
    P2pmodelError,
    RepoNotFoundError,
    UnavailableError,
    WrongAnswerError,
)
from p2pmodel.gateway import gguf
from p2pmodel.gateway.commits import CommitFiles, PushedRefs
from p2pmodel.gateway.failures import git_failure, huggingface_failure
from p2pmodel.gateway.files import SOURCE, file_response, from_the_hub
from p2pmodel.gateway.lfs import download_batch, lfs_pointer, read_download_batch
from p2pmodel.gateway.listing import HuggingFaceEntry, Listings, array
from p2pmodel.gateway.passing import collect, pass_on, pass_on_from, pass_on_json, read_body
from p2pmodel.gateway.request import BadRequestError
from p2pmodel.gateway.response import JSON, Call, Response, json_response, refusal
from p2pmodel.gateway.routes_xet import XetRoutes
from p2pmodel.gateway.routing import ANY, READ, Handler, Route, route
from p2pmodel.gateway.uploading import PartLinks, lead_here
from p2pmodel.limits import LISTING_BYTES_MAX, REQUEST_BODY_BYTES_MAX

_KINDS: Final = {f"{kind}s": kind for kind in RepoKind}

#: Parts of a repo, not names: /api/models/gpt2/refs is about gpt2.
_PARTS: Final = "(?:refs|auth-check|revision|tree|commits|paths-info|preupload|xet-(?:read|write)-token)(?:/{rest})?"

_MAIN: Final = "main"  # every repo's default branch


class _PathsInfo(msgspec.Struct):
    paths: list[str] | str = []
    expand: bool | str = False


class _Made(msgspec.Struct):
    commit: str = msgspec.field(name="commitOid")


class HuggingFaceRoutes:
    def __init__(self, delivery: Delivery, upstreams: Upstreams, links: PartLinks, xet: XetRoutes) -> None:
        self._delivery = delivery
        self._upstreams = upstreams
        self._links = links
        self._offer = xet.offer
        self._xet = xet
        self._listings = Listings(HuggingFaceEntry)

    def table(self) -> tuple[Route, ...]:
        def line(name: str, methods: frozenset[str], template: str, handler: Handler, *, takes_body: bool = False) -> Route:
            return route(name, methods, template, handler, huggingface_failure, takes_body=takes_body)

        post, git = frozenset({"POST"}), partial(route, failure=git_failure, takes_body=True)
        return (
            line("hf_file", READ, "/{prefix}{repo}/resolve/{revision}/{path}", self._file),
            line("hf_raw", READ, "/{prefix}{repo}/raw/{revision}/{path}", self._raw),
            line("hf_tree", READ, "/api/{kinds}/{repo}/tree/{revision}(?:/{path})?", self._tree),
            line("hf_paths", post, "/api/{kinds}/{repo}/paths-info/{revision}", self._paths_info, takes_body=True),
            line("hf_refs", READ, "/api/{kinds}/{repo}/refs", self._refs),
            line("xet", READ, "/api/{kinds}/{repo}/xet-read-token/{revision}", self._xet_token),
            *self._xet.table(),
            line("hf_info", READ, "/api/{kinds}/{repo}/revision/{revision}", self._info),
            line("hf_lfs", post, "/{prefix}{repo}/info/lfs/objects/batch", self._lfs_batch, takes_body=True),
            git("hf_git", READ | post, "/{prefix}{repo}/(?:info/refs|git-upload-pack)", self._git_fetch),
            git("hf_git_push", post, "/{prefix}{repo}/git-receive-pack", self._git_push),
            line("hf_gguf", READ, "/v2/{repo}/manifests/{segment}", self._manifest),
            line("hf_commit", post, "/api/{kinds}/{repo}/commit/{revision}", self._commit, takes_body=True),
            line("hf_parquet", READ, "/api/{kinds}/{repo}/parquet(?:/{rest})?", self._pass_on_with_own_links),
            line("hf_pass", ANY, "/api/{kinds}/{repo}/" + _PARTS, self._pass_on, takes_body=True),
            line("hf_info", READ, "/api/{kinds}/{repo}", self._info),
            line("hf_repos", ANY, "/api/repos/{rest}", self._pass_on_with_own_links, takes_body=True),
            line("hf_pass", ANY, "/{rest}", self._pass_on, takes_body=True),
        )

    async def _file(self, call: Call) -> Response:
        path = call.values["path"]
        snapshot, entry = await self._delivery.entry(_repo(call), _revision(call), path, call.request.access)
        if entry.blob is None:  # nothing to verify it by: only the hub itself can answer for it
            return from_the_hub(await self._pass_on(call))
        also = self._offer.headers(call.request.endpoint, snapshot, entry)
        return await file_response(self._delivery, call, snapshot, entry, entry.blob.id.hex, also)

    async def _raw(self, call: Call) -> Response:
        """What git holds: a small file, or the pointer to a large one."""
        path = call.values["path"]
        snapshot, entry = await self._delivery.entry(_repo(call), _revision(call), path, call.request.access)
        if entry.blob is None or entry.blob.id.algorithm == "git-sha1":
            return await self._file(call)
        pointer = lfs_pointer(entry.blob)
        about = [("Content-Type", "text/plain; charset=utf-8"), ("X-Repo-Commit", snapshot.commit), (SOURCE, "store")]
        return Response(200, about, pointer)

    async def _xet_token(self, call: Call) -> Response:
        return await self._xet.read_token(call, _repo(call), _revision(call))

    async def _info(self, call: Call) -> Response:
        async def answer() -> Response:
            info = await self._known_info(call)
            return Response(200, (JSON,), info if call.request.flag("blobs") else _names_only(info))

        fields = call.request.query.get("expand", [])
        if not fields and not call.request.flag("securityStatus"):
            return await answer()
        told = await self._hub_first(call, answer)
        return await self._learning(call, told) if "sha" in fields else told  # JavaScript's way to begin a download

    async def _known_info(self, call: Call) -> bytes:
        """What the hub says about the repo; with the hub gone, what its listing tells."""
        repo, access = _repo(call), call.request.access
        snapshot = await self._delivery.snapshot(repo, _revision(call), access)
        try:
            return await self._delivery.info(repo, snapshot.commit, access)
        except UnavailableError:
            return _info_of(snapshot)

    async def _refs(self, call: Call) -> Response:
        """llama.cpp begins with it."""

        async def answer() -> Response:
            main = {"name": _MAIN, "ref": f"refs/heads/{_MAIN}", "targetCommit": (await self._snapshot(call)).commit}
            return json_response({"branches": [main], "converts": [], "tags": []})

        return await self._learning(call, await self._hub_first(call, answer))

    async def _manifest(self, call: Call) -> Response:
        """llama.cpp of 2025 begins with it (newer ones with the refs)."""
        try:
            told = _explained(call, await pass_on(self._upstreams, Hub.HUGGINGFACE, call))
        except UnavailableError:
            return json_response(gguf.manifest(await self._snapshot(call), call.values["segment"]))
        return await self._learning(call, told)

    async def _learning(self, call: Call, told: Response) -> Response:
        """The hub's answer; where the branch leads is known from now on, for when the hub is gone."""
        if told.status == HTTPStatus.OK:
            with suppress(P2pmodelError):  # an empty repo has no branch
                await self._snapshot(call)
        return told

    async def _tree(self, call: Call) -> Response:
        expand = call.request.flag("expand")

        async def answer() -> Response:
            snapshot = await self._snapshot(call)
            listed = self._offer.listed(snapshot, await self._listed(snapshot, call))
            return Response(200, (JSON,), _with_last_commits(snapshot, listed) if expand else listed)

        return await self._hub_first(call, answer) if expand else await answer()

    async def _listed(self, snapshot: Snapshot, call: Call) -> bytes:
        root, recursive = call.values.get("path", "").strip("/"), call.request.flag("recursive")
        if recursive and not root:
            return snapshot.listing
        lines = (await self._listings.of(snapshot)).below(root, recursive=recursive)
        if lines is None:
            raise EntryNotFoundError(f"{snapshot.repo} has no directory {root}.", commit=snapshot.commit)
        return array(lines)

    async def _paths_info(self, call: Call) -> Response:
        body = await read_body(call, REQUEST_BODY_BYTES_MAX)
        if body is None:
            return refusal(413, f"More than {REQUEST_BODY_BYTES_MAX} bytes of paths.")
        asked = _read_paths(body, call.request.header("content-type") or "")

        expand = str(asked.expand).lower() in {"true", "1"}

        async def answer() -> Response:
            snapshot = await self._snapshot(call)
            paths = [asked.paths] if isinstance(asked.paths, str) else asked.paths
            named = self._offer.listed(snapshot, array((await self._listings.of(snapshot)).named(paths)))
            return Response(200, (JSON,), _with_last_commits(snapshot, named) if expand else named)

        return await self._hub_first(call, answer, body) if expand else await answer()

    async def _snapshot(self, call: Call) -> Snapshot:
        return await self._delivery.snapshot(_repo(call), _revision(call), call.request.access)

    async def _hub_first(self, call: Call, answer: Callable[[], Awaitable[Response]], body: bytes | None = None) -> Response:
        """The hub knows more than we keep (dates, scans, last commits); without it, what we know is better than nothing."""
        if _repo(call).on_lan:
            return await answer()
        try:
            return _explained(call, await pass_on_json(self._upstreams, Hub.HUGGINGFACE, call, body))
        except UnavailableError:
            return await answer()

    async def _pass_on(self, call: Call) -> Response:
        response = _explained(call, await pass_on(self._upstreams, Hub.HUGGINGFACE, call))
        if call.request.method not in READ and "repo" in call.values:
            self._delivery.changed(_repo(call))
        return response

    # Git

    async def _git_fetch(self, call: Call) -> Response:
        """A history is the hub's alone: we know files, not what git made of them."""
        self._check_not_on_lan(call)
        return await pass_on(self._upstreams, Hub.HUGGINGFACE, call)

    async def _git_push(self, call: Call) -> Response:
        """The large files came before it, as in any upload; the small ones are in a pack, which only the hub unpacks."""
        self._check_not_on_lan(call)
        repo, refs = _repo(call), PushedRefs()
        watched = replace(call, body=None if call.body is None else refs.watch(call.body))
        response, _ = await collect(
            _explained(call, await pass_on(self._upstreams, Hub.HUGGINGFACE, watched)), LISTING_BYTES_MAX
        )
        self._delivery.changed(repo)
        if response.status == HTTPStatus.OK:
            for commit in refs.commits:  # one that the hub did not take is none that it shows
                self._delivery.committed(repo, commit, call.request.access, ())
        return response

    def _check_not_on_lan(self, call: Call) -> None:
        if (repo := _repo(call)).on_lan:
            raise RepoNotFoundError(f"{repo} has no history.", next_step="Use `p2pmodel fetch`.")

    # Uploads

    async def _lfs_batch(self, call: Call) -> Response:
        """Of an upload, the hub says where it wants the files; clients bring them to us, and we there."""
        asked = await read_body(call, REQUEST_BODY_BYTES_MAX)
        if asked is None:
            return refusal(413, f"More than {REQUEST_BODY_BYTES_MAX} bytes of names.")
        if (own := await self._own_downloads(call, asked)) is not None:
            return own
        passed, home = await pass_on_from(self._upstreams, Hub.HUGGINGFACE, call, _without_xet_transfer(asked))
        response, answered = await collect(_explained(call, passed), LISTING_BYTES_MAX)
        try:
            batch = msgspec.json.decode(answered)
        except (ValueError, RecursionError):
            return response
        led = lead_here(batch, self._links, call.request.endpoint, Hub.HUGGINGFACE, home)
        return replace(response, body=msgspec.json.encode(led))

    async def _own_downloads(self, call: Call, body: bytes) -> Response | None:
        """Where git finds the files of a snapshot: here. None for what is no download, for files of other commits, and where
        the hub has to ask for a password first."""
        batch = read_download_batch(body)
        if batch is None:
            return None
        try:
            snapshot = await self._delivery.snapshot(_repo(call), batch.revision or _MAIN, call.request.access)
        except (NotFoundError, NotAuthorisedError):
            return None
        return download_batch(batch, snapshot, call)

    async def _pass_on_with_own_links(self, call: Call) -> Response:
        """Clients take a new repo's name out of its URL, and know only the endpoint that they were given; the URLs of a
        dataset's Parquet files would lead them past us."""
        return (await self._with_own_links(call))[0]

    async def _with_own_links(self, call: Call) -> tuple[Response, bytes]:
        """The hub's answer, and its body: pages of the hub are at our endpoint now."""
        passed, home = await pass_on_from(self._upstreams, Hub.HUGGINGFACE, call)
        response, answered = await collect(_explained(call, passed), LISTING_BYTES_MAX)
        if home:
            answered = answered.replace(f'"{home}/'.encode(), f'"{call.request.endpoint}/'.encode())
        return replace(response, body=answered), answered

    async def _commit(self, call: Call) -> Response:
        repo, files = _repo(call), CommitFiles()
        watched = replace(call, body=None if call.body is None else files.watch(call.body))
        response, answered = await self._with_own_links(watched)
        self._delivery.changed(repo)
        if response.status == HTTPStatus.OK:
            with suppress(ValueError, RecursionError):  # then we do not know what became of it
                made = msgspec.json.decode(answered, type=_Made)
                self._delivery.committed(repo, made.commit, call.request.access, files.found)
        return response


def _without_xet_transfer(body: bytes) -> bytes:
    """Clients that let the hub choose are kept from Xet: of a file that shares bytes with another they would send only the
    rest, and we could not keep it."""
    try:
        asked = msgspec.json.decode(body, type=dict[str, Any])
        asked["transfers"] = [name for name in asked["transfers"] if name != "xet"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return body
    return msgspec.json.encode(asked)


def _explained(call: Call, response: Response) -> Response:
    """The hub tells a stranger "401" for a repo that is not there or not for him. Over https its clients know what that
    means; over http they need the code."""
    named = {name.lower() for name, _ in response.headers}
    if response.status == 401 and "repo" in call.values and "x-error-code" not in named:  # noqa: PLR2004  # Unauthorized
        return replace(response, headers=[*response.headers, ("X-Error-Code", "RepoNotFound")])
    return response


def _repo(call: Call) -> Repo:
    try:
        return Repo(Hub.HUGGINGFACE, _KINDS[call.values.get("kind", "models")], call.values["repo"].removesuffix(".git"))
    except ValueError as error:
        raise RepoNotFoundError(f"There is no such repo: {error}.") from None


def _revision(call: Call) -> str:
    """JavaScript clients ask for HEAD, which the cluster need not learn as a branch of its own."""
    asked = call.values.get("revision", _MAIN)
    return _MAIN if asked == "HEAD" else asked


def _with_last_commits(snapshot: Snapshot, entries: bytes) -> bytes:
    """Only the hub can tell which commit last touched a file. Clients that ask for it need one: no later than this one."""
    commit = {"id": snapshot.commit, "title": "", "date": "1970-01-01T00:00:00.000Z"}
    listed = msgspec.json.decode(entries, type=list[dict[str, Any]])
    return msgspec.json.encode([{"lastCommit": commit, **entry} for entry in listed])


def _info_of(snapshot: Snapshot) -> bytes:
    """The fields without which some version of huggingface_hub does not read an answer."""
    name = snapshot.repo.name
    return msgspec.json.encode(
        {
            "id": name,
            "modelId": name,
            "sha": snapshot.commit,
            "private": not snapshot.public,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": [{"rfilename": entry.path, "size": entry.size} for entry in snapshot.files],
        }
    )


def _names_only(info: bytes) -> bytes:
    """Delivery keeps the answer that has sizes and hashes too; the hub gives them to those who ask."""
    try:
        about = msgspec.json.decode(info, type=dict[str, Any])
        if "siblings" in about:
            about["siblings"] = [{"rfilename": sibling["rfilename"]} for sibling in about["siblings"]]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise WrongAnswerError("What the hub says about the repo cannot be read.") from error
    return msgspec.json.encode(about)


def _read_paths(body: bytes, content_type: str) -> _PathsInfo:
    """Python clients send a form, JavaScript JSON."""
    try:
        if content_type.startswith("application/json"):
            return msgspec.json.decode(body, type=_PathsInfo)
        form = parse_qs(body.decode(), errors="strict")
    except (ValueError, RecursionError) as error:  # bad JSON, JSON nested too deep, bad UTF-8
        raise BadRequestError(f"The paths cannot be read: {error}") from None
    return _PathsInfo(form.get("paths", []), form.get("expand", ["false"])[0])
