"""What ModelScope clients ask under MODELSCOPE_ENDPOINT: six routes for reading; the rest is handed on to the hub.

Its clients take the size, the hash and the cache key of a file from the listing, stop at the first page that is shorter
than they asked for, and take a failed page for an empty one: so a listing is whole before its first page is answered,
pages are never cut, and entries stay as the hub wrote them.
"""

from __future__ import annotations

import zlib
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from p2pmodel.content import Hub, Repo, RepoKind, Snapshot
from p2pmodel.delivery.ports import Delivery, Upstreams
from p2pmodel.errors import EntryNotFoundError, RepoNotFoundError, UnavailableError
from p2pmodel.gateway.commits import CommitDocument
from p2pmodel.gateway.failures import modelscope_envelope, modelscope_failure
from p2pmodel.gateway.files import file_response, from_the_hub
from p2pmodel.gateway.listing import Line, Listings, ModelScopeEntry, array
from p2pmodel.gateway.passing import collect, pass_on, pass_on_from
from p2pmodel.gateway.request import BadRequestError, Request
from p2pmodel.gateway.response import JSON, Call, Response, json_response
from p2pmodel.gateway.routing import ANY, READ, WRITE, Handler, Route, route
from p2pmodel.gateway.uploading import PartLinks, lead_here
from p2pmodel.limits import LISTING_BYTES_MAX

_KINDS: Final = {"models": RepoKind.MODEL, "datasets": RepoKind.DATASET}
_DEFAULT_REVISION: Final = "master"
_IDS_MAX: Final = 1024  # datasets that clients looked up by name and may list by number

#: Without the hub we know a repo's default branch at least; older clients refuse to go on without this answer.
_OFFLINE_REVISIONS: Final = b'{"RevisionMap":{"Branches":[{"Revision":"master","CreatedAt":0}],"Tags":[]}}'


class _Numbered(msgspec.Struct):
    number: int | None = msgspec.field(name="Id", default=None)


class _Made(msgspec.Struct):
    commit: str = msgspec.field(name="oid")


class _Answered(msgspec.Struct):
    data: _Made = msgspec.field(name="Data")


class _Record(msgspec.Struct):
    data: _Numbered = msgspec.field(name="Data", default_factory=_Numbered)


class ModelScopeRoutes:
    def __init__(self, delivery: Delivery, upstreams: Upstreams, links: PartLinks) -> None:
        self._delivery = delivery
        self._upstreams = upstreams
        self._links = links
        self._listings = Listings(ModelScopeEntry)
        self._by_number: dict[str, Repo] = {}

    def table(self) -> tuple[Route, ...]:
        def line(name: str, methods: frozenset[str], template: str, handler: Handler, *, takes_body: bool = False) -> Route:
            return route(name, methods, template, handler, modelscope_failure, takes_body=takes_body)

        kinds = "(?P<kind>models|datasets)"
        return (
            line("ms_file", READ, f"/api/v1/{kinds}/{{owned}}/repo", self._file),
            line("ms_listing", READ, f"/api/v1/{kinds}/{{owned}}/repo/(?:files|tree)", self._listing),
            line("ms_listing", READ, r"/api/v1/datasets/(?P<number>\d+)/repo/tree", self._listing),
            line("ms_revisions", READ, "/api/v1/models/{owned}/revisions", self._revisions),
            line("ms_acceleration", READ, "/api/v1/repos/internalAccelerationInfo", _no_acceleration),
            line("ms_info", READ, f"/api/v1/{kinds}/{{owned}}", self._info),
            line("ms_open_info", READ, f"/openapi/v1/{kinds}/{{owned}}", self._open_info),
            line("ms_file", READ, f"/(?:{kinds}/)?{{owned}}/resolve/{{revision}}/{{path}}", self._file),
            line("ms_lfs", WRITE, f"/api/v1/repos/{kinds}/{{owned}}/info/lfs/objects/batch", self._lfs_batch, takes_body=True),
            line("ms_commit", WRITE, f"/api/v1/repos/{kinds}/{{owned}}/commit/{{revision}}", self._commit, takes_body=True),
            line("ms_write", WRITE, f"/api/v1/{kinds}/{{owned}}(?:/(?!download/){{rest}})?", self._write, takes_body=True),
            line("ms_pass", ANY, "/{rest}", self._pass_on, takes_body=True),
        )

    async def _file(self, call: Call) -> Response:
        revision = call.values.get("revision") or _revision(call.request)
        paths = [call.values["path"]] if "path" in call.values else _asked_paths(call.request)
        for path in paths[:-1]:
            try:
                return await self._file_at(call, revision, path)
            except EntryNotFoundError:
                continue
        return await self._file_at(call, revision, paths[-1])

    async def _file_at(self, call: Call, revision: str, path: str) -> Response:
        snapshot, entry = await self._delivery.entry(self._repo(call), revision, path, call.request.access)
        if entry.blob is None:
            return from_the_hub(await self._pass_on(call))
        return await file_response(self._delivery, call, snapshot, entry, entry.blob.id.hex)

    async def _listing(self, call: Call) -> Response:
        request = call.request
        number = call.values.get("number")
        if number is not None and number not in self._by_number:
            return await self._pass_on(call)
        snapshot = await self._delivery.snapshot(self._repo(call), _revision(request), request.access)
        recursive = request.asked("Recursive", "true").lower() in {"true", "1"}
        lines = (await self._listings.of(snapshot)).below(request.asked("Root").strip("/"), recursive=recursive) or []
        page = array(_page(request, lines))
        return _success(b'{"Files":%b,"TotalCount":%d}' % (page, len(lines)))

    async def _revisions(self, call: Call) -> Response:
        """`EndTime`, which 1.9 sends, only bounds what is told: its clients look at the dates themselves."""
        repo, access = self._repo(call), call.request.access
        try:
            return _success(await self._delivery.revisions(repo, access))
        except UnavailableError:
            await self._delivery.snapshot(repo, _DEFAULT_REVISION, access)
            return _success(_OFFLINE_REVISIONS)

    async def _info(self, call: Call) -> Response:
        repo, access = self._repo(call), call.request.access
        snapshot = await self._delivery.snapshot(repo, _revision(call.request), access)
        try:
            body = await self._delivery.info(repo, snapshot.commit, access)
        except UnavailableError:
            body = modelscope_envelope(_record_of(snapshot))
        self._remember_number(repo, body)
        return Response(200, (JSON,), body)

    async def _open_info(self, call: Call) -> Response:
        """The newer record, which clients since 1.38 ask for first. Only the hub has it; told that there is none, they ask for
        the other, which we can give."""
        try:
            return await self._pass_on(call)
        except UnavailableError:
            await self._delivery.snapshot(self._repo(call), _DEFAULT_REVISION, call.request.access)
            missing = {"success": False, "code": "ResourceNotFound", "message": "The hub does not answer.", "request_id": ""}
            return json_response(missing, 404)

    def _remember_number(self, repo: Repo, body: bytes) -> None:
        """Datasets are listed by the number that their record gives."""
        if repo.kind is not RepoKind.DATASET:
            return
        try:
            number = msgspec.json.decode(body, type=_Record).data.number
        except (ValueError, RecursionError):
            return  # the client will see for itself what it can make of this record
        if number is not None:
            self._by_number.pop(str(number), None)
            self._by_number[str(number)] = repo
        if len(self._by_number) > _IDS_MAX:
            del self._by_number[next(iter(self._by_number))]

    def _repo(self, call: Call) -> Repo:
        if "number" in call.values:
            return self._by_number[call.values["number"]]
        try:
            return Repo(Hub.MODELSCOPE, _KINDS[call.values.get("kind", "models")], call.values["repo"])
        except ValueError as error:
            raise RepoNotFoundError(f"There is no such repo: {error}.") from None

    # Writes

    async def _lfs_batch(self, call: Call) -> Response:
        """The hub says where it wants the files that it lacks; clients bring them to us, and we there."""
        passed, home = await pass_on_from(self._upstreams, Hub.MODELSCOPE, call)
        response, answered = await collect(passed, LISTING_BYTES_MAX)
        try:
            envelope = msgspec.json.decode(answered, type=dict[str, Any])
        except (ValueError, RecursionError):  # no JSON, no UTF-8, nested too deep
            return response
        lead_here(envelope.get("Data"), self._links, call.request.endpoint, Hub.MODELSCOPE, home)
        return replace(response, body=msgspec.json.encode(envelope))

    async def _commit(self, call: Call) -> Response:
        repo, files = self._repo(call), CommitDocument()
        watched = replace(call, body=None if call.body is None else files.watch(call.body))
        response, answered = await collect(await self._pass_on(watched), LISTING_BYTES_MAX)
        self._delivery.changed(repo)
        if response.status == HTTPStatus.OK:
            with suppress(ValueError, RecursionError):  # then we do not know what became of it
                made = msgspec.json.decode(answered, type=_Answered).data
                self._delivery.committed(repo, made.commit, call.request.access, files.found)
        return response

    async def _write(self, call: Call) -> Response:
        repo = self._repo(call)
        response = await self._pass_on(call)
        self._delivery.changed(repo)
        return response

    async def _pass_on(self, call: Call) -> Response:
        return await pass_on(self._upstreams, Hub.MODELSCOPE, call)


def _record_of(snapshot: Snapshot) -> bytes:
    """With the hub gone, what its listing tells: the fields without which some version does not go on. Datasets are listed by
    a number, which is the same each time; type 4 is a plain repo."""
    owner, _, name = snapshot.repo.name.rpartition("/")
    number = zlib.crc32(str(snapshot.repo).encode())
    names = {"Id": number, "Name": name, "Path": owner, "Owner": owner, "Namespace": owner}
    return msgspec.json.encode({**names, "Type": 4, "Visibility": 5 if snapshot.public else 1, "Revision": _DEFAULT_REVISION})


async def _no_acceleration(_call: Call) -> Response:
    """Clients ask where the nearest copy is: here."""
    return _success(b'{"InternalRegionQueryAddress":""}')


def _success(data: bytes) -> Response:
    return Response(200, (JSON,), modelscope_envelope(data))


def _revision(request: Request) -> str:
    return request.asked("Revision") or _DEFAULT_REVISION


def _asked_paths(request: Request) -> list[str]:
    """The file that is meant, likeliest first: clients since 1.15 write a space as `+`, 1.9 wrote names as they are."""
    path = request.asked("FilePath").strip("/")
    if not path:
        raise BadRequestError("FilePath names no file")
    raw = next((part for part in request.raw_query.split("&") if part.startswith("FilePath=")), "")
    # Also one with `&` in it: 1.9 asks for nothing after the name.
    candidates = [path, unquote(raw.partition("=")[2]), unquote(request.raw_query.partition("FilePath=")[2])]
    return list(dict.fromkeys(candidates))


def _page(request: Request, lines: list[Line]) -> list[Line]:
    try:
        number, size = int(request.asked("PageNumber", "1")), int(request.asked("PageSize", "0"))
    except ValueError:
        raise BadRequestError("PageNumber and PageSize are numbers") from None
    if size <= 0:
        return lines
    start = (max(number, 1) - 1) * size
    return lines[start : start + size]
