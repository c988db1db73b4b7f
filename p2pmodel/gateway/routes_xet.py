"""Xet's read protocol, spoken by the gateway itself: the storage that it leads clients to is this daemon.

huggingface_hub refuses files of more than 50 GB over plain HTTP since 0.33, unless they come by Xet. Who is led here, and
for which files, is `XetOffer`'s to say: by default those files alone. Every version reads the others over plain HTTP, where
they leave by sendfile, one request a file, and a client without hf_xet does not know the difference; by Xet they cost more
on both sides. Once a client has been led to Xet there is no way back for it, so less is safer. The token route answers for
every file: a client that once listed a repo at the hub itself remembers Xet names and asks for nothing else.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import msgspec
import trio

from p2pmodel.content import Access, FileEntry, Repo, Snapshot
from p2pmodel.delivery.ports import Delivery, HubRequest, Reader, Upstreams
from p2pmodel.errors import EntryNotFoundError, NotAuthorisedError, WrongAnswerError
from p2pmodel.gateway import ranges
from p2pmodel.gateway.failures import huggingface_failure
from p2pmodel.gateway.files import SOURCE
from p2pmodel.gateway.passing import collect
from p2pmodel.gateway.response import Call, Header, Response, json_response, refusal
from p2pmodel.gateway.routing import ANY, Handler, Route, route
from p2pmodel.gateway.uploading import Seals
from p2pmodel.gateway.xet import FRAME_BYTES, Framer, Xorb, reconstruction
from p2pmodel.gateway.xet_uploading import XetUploadRoutes, token_answer
from p2pmodel.limits import LISTING_BYTES_MAX, XET_PIECE_BYTES, XET_TICKET_S, XET_TICKETS_MAX

STORAGE_PATH: Final = "/api/p2pmodel-xet"
_HUB_NAMES_KEPT: Final = 8  # listings; a client reads one snapshot at a time
_PAGES_MAX: Final = 200  # of a listing: SNAPSHOT_FILES_MAX by the thousand
_NEXT: Final = re.compile(r'<{endpoint}([^>]*)>\s*;[^,<]*\brel="?next"?')
_OFF: Final = "This endpoint serves files over plain HTTP, not Xet. Set HF_HUB_DISABLE_XET=1 and try again."


@dataclass(frozen=True, slots=True)
class XetOffer:
    """Which files clients are led to Xet for: those of more than `above` bytes, none if it is None."""

    above: int | None

    def covers(self, entry: FileEntry) -> bool:
        large = self.above is not None and entry.size > self.above
        return large and entry.blob is not None and entry.blob.id.algorithm == "sha256"

    def headers(self, endpoint: str, snapshot: Snapshot, entry: FileEntry) -> list[Header]:
        """What makes a client go there for a file."""
        if entry.blob is None or not self.covers(entry):
            return []
        way = f"{endpoint}/api/{snapshot.repo.kind}s/{snapshot.repo.name}/xet-read-token/{snapshot.commit}"
        link = ("Link", f'<{way}>; rel="xet-auth"')
        return [("X-Xet-Hash", entry.blob.id.hex), ("X-Xet-Refresh-Route", way), link]

    def listed(self, snapshot: Snapshot, listing: bytes) -> bytes:
        """Entries of a listing, with the field that makes a client go there without another look."""
        covered = {entry.path: entry.blob.id.hex for entry in snapshot.files if entry.blob and self.covers(entry)}
        if not covered:
            return listing
        entries = msgspec.json.decode(listing, type=list[dict[str, Any]])
        named = ({**entry, "xetHash": covered[path]} if (path := entry.get("path")) in covered else entry for entry in entries)
        return msgspec.json.encode(list(named))


class _Listed(msgspec.Struct):
    path: str
    xet_hash: str = msgspec.field(name="xetHash", default="")


@dataclass(frozen=True, slots=True)
class _Ticket:
    """Whom a token was given to, and for what."""

    repo: Repo
    commit: str
    access: Access
    expires: float  # unix time


class _Tickets:
    """Tokens of our own, so that a client's token for the hub stands in no URL."""

    def __init__(self) -> None:
        self._tickets: OrderedDict[str, _Ticket] = OrderedDict()

    def issue(self, repo: Repo, commit: str, access: Access) -> tuple[str, int]:
        expires = int(time.time()) + XET_TICKET_S
        token = secrets.token_hex(20)
        self._tickets[token] = _Ticket(repo, commit, access, expires)
        while len(self._tickets) > XET_TICKETS_MAX:
            self._tickets.popitem(last=False)
        return token, expires

    def find(self, token: str) -> _Ticket:
        """Raises NotAuthorisedError."""
        ticket = self._tickets.get(token)
        if ticket is None or ticket.expires < time.time():
            raise NotAuthorisedError(
                "This token is too old, or from before the daemon's restart.", next_step="Ask for another."
            )
        self._tickets.move_to_end(token)
        return ticket


class XetRoutes:
    def __init__(self, delivery: Delivery, upstreams: Upstreams, offer: XetOffer, seals: Seals) -> None:
        self.offer = offer
        self._delivery = delivery
        self._upstreams = upstreams
        self._uploads = XetUploadRoutes(delivery, upstreams, seals, STORAGE_PATH)
        self._tickets = _Tickets()
        self._hub_names: OrderedDict[tuple[Repo, str], dict[str, str]] = OrderedDict()

    def table(self) -> tuple[Route, ...]:
        def line(methods: str, template: str, handler: Handler) -> Route:
            return route("xet", methods.split(), template, handler, huggingface_failure, takes_body="POST" in methods)

        storage = re.escape(STORAGE_PATH)
        file = r"(?P<file>[0-9a-fA-F]{64})"
        return (
            *self._uploads.table(),
            line("GET", storage + "(?:/v1)?/reconstructions?/" + file, self._reconstruction),
            line("GET", storage + r"/data/(?P<ticket>[0-9a-f]+)/" + file + "/(?P<number>[0-9]{1,9})", self._data),
            line(" ".join(ANY), storage + ".*", _unknown),
            line("POST", "/v1/telemetry", _unknown),  # hf_xet reports to the root of a storage's host
        )

    async def read_token(self, call: Call, repo: Repo, revision: str) -> Response:
        """Where to read a repo's files by Xet, and the token for it."""
        if self.offer.above is None:
            return refusal(404, _OFF, ("X-Error-Message", _OFF))
        snapshot = await self._delivery.snapshot(repo, revision, call.request.access)
        token, expires = self._tickets.issue(repo, snapshot.commit, call.request.access)
        return token_answer(call.request.endpoint + STORAGE_PATH, token, expires)

    async def _reconstruction(self, call: Call) -> Response:
        token = (call.request.header("authorization") or "").partition(" ")[2].strip()
        ticket = self._tickets.find(token)
        entry = (await self._entry(ticket, call.values["file"]))[1]
        try:
            asked = ranges.choose(call.request.header("range"), entry.size)
        except ranges.UnsatisfiableError:
            return Response(416, [("Content-Range", f"bytes */{entry.size}")])
        base = f"{call.request.endpoint}{STORAGE_PATH}/data/{token}/{call.values['file']}"
        return json_response(reconstruction(_name(entry), entry.size, asked.start, asked.stop, base))

    async def _data(self, call: Call) -> Response:
        ticket = self._tickets.find(call.values["ticket"])
        snapshot, entry = await self._entry(ticket, call.values["file"])
        xorb = Xorb(_name(entry), entry.size, int(call.values["number"]))
        if xorb.length <= 0:
            raise EntryNotFoundError("The file is not that long.", commit=snapshot.commit)
        try:
            asked = ranges.choose(call.request.header("range"), xorb.framed_length)
        except ranges.UnsatisfiableError:
            about = [("Content-Range", f"bytes */{xorb.framed_length}"), (SOURCE, self._delivery.whereabouts(entry))]
            return Response(416, about)
        start, stop = xorb.covering(asked.start, asked.stop)
        reader = await call.held.enter_async_context(self._delivery.read(snapshot, entry, start, stop, ticket.access))
        await reader.ready()
        about = [
            ("Content-Length", str(asked.length)),
            ("Accept-Ranges", "bytes"),
            ("Content-Type", "application/octet-stream"),
        ]
        if asked.partial:
            about.append(("Content-Range", asked.content_range))
        about.append((SOURCE, reader.sources))
        framed = _framed(reader, stop - start, skip=asked.start % FRAME_BYTES, count=asked.length)
        return Response(206 if asked.partial else 200, about, framed)

    async def _entry(self, ticket: _Ticket, file: str) -> tuple[Snapshot, FileEntry]:
        """The file of that name: its sha256, as we call it, or what the hub's own listings call it."""
        snapshot = await self._delivery.snapshot(ticket.repo, ticket.commit, ticket.access)
        path = next((entry.path for entry in snapshot.files if entry.blob and entry.blob.id.hex == file.lower()), None)
        if path is None:
            path = await self._path_at_hub(ticket, file.lower())
        return await self._delivery.entry(ticket.repo, ticket.commit, path, ticket.access)

    async def _path_at_hub(self, ticket: _Ticket, file: str) -> str:
        """Clients remember a listing that they had from the hub itself, for ever. The hub's names stand in its tree."""
        key = ticket.repo, ticket.commit
        known = self._hub_names.get(key)
        if known is None:
            known = self._hub_names[key] = await self._ask_names(ticket)
            while len(self._hub_names) > _HUB_NAMES_KEPT:
                self._hub_names.popitem(last=False)
        if file not in known:
            raise EntryNotFoundError("No file of this repo has that Xet hash.", commit=ticket.commit)
        return known[file]

    async def _ask_names(self, ticket: _Ticket) -> dict[str, str]:
        """Paths by Xet name. The ticket's owner asks, not we."""
        headers = [("Authorization", f"Bearer {ticket.access.token}")] if ticket.access.token else []
        names: dict[str, str] = {}
        target: str | None = f"/api/{ticket.repo.kind}s/{ticket.repo.name}/tree/{ticket.commit}?recursive=true&expand=false"
        for _ in range(_PAGES_MAX):
            request = HubRequest(ticket.repo.hub, "GET", target or "", headers, None)
            async with await self._upstreams.pass_on(request) as page:
                answer, body = await collect(Response(page.status, page.headers, page.body), LISTING_BYTES_MAX)
            try:
                entries = msgspec.json.decode(body, type=list[_Listed]) if answer.status == HTTPStatus.OK else []
            except (ValueError, RecursionError):
                raise WrongAnswerError("The hub's listing cannot be read.") from None
            names |= {entry.xet_hash: entry.path for entry in entries if entry.xet_hash}
            target = _next_page(answer)
            if target is None:
                break
        return names


async def _unknown(_call: Call) -> Response:
    """What clients report of themselves, and what a newer one tries first."""
    return refusal(404, "This storage has no such thing.")


def _name(entry: FileEntry) -> str:
    """What the chunks of a file are named after: its bytes, whatever name it was asked for by."""
    assert entry.blob is not None
    return str(entry.blob.id)


def _next_page(answer: Response) -> str | None:
    """The target of the next page. The upstream has turned its own links into ours."""
    link = next((value for name, value in answer.headers if name.lower() == "link"), "")
    match = _NEXT.search(link)
    return match[1] if match else None


async def _framed(reader: Reader, length: int, *, skip: int, count: int) -> AsyncIterator[bytes]:
    """`count` bytes of the frames around what the reader gives, from their byte `skip` on."""
    framer = Framer(length)
    while count and (span := await reader.next_span()) is not None:
        with span:
            for at in range(0, span.length, XET_PIECE_BYTES):
                size = min(XET_PIECE_BYTES, span.length - at)
                framed = framer.frame(await trio.to_thread.run_sync(os.pread, span.fd, size, span.offset + at))
                piece = framed[skip:][:count]
                skip = max(0, skip - len(framed))
                count -= len(piece)
                if piece:
                    yield piece
