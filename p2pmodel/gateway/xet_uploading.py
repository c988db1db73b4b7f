"""Uploads by Xet through us: newer versions of huggingface_hub know no other way, where hf_xet is installed.

The hub answers their question for a token with the address of its storage. They get an address of ours instead, which
carries that one along, sealed; whatever they ask below it goes there as a stream, with the token that the hub gave them for
it. Xorbs may also be wanted at a signed place of another host's (a grant, since hf_xet 1.8): that is sealed into a link of
ours as well. Of xorbs and shards a copy stays (`Delivery.xorb`, `Delivery.shard`); what becomes of it is no business of theirs.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

import msgspec
import trio

from p2pmodel.content import Hub
from p2pmodel.delivery.ports import Delivery, Part, Upstreams
from p2pmodel.errors import WrongAnswerError
from p2pmodel.gateway.failures import huggingface_failure
from p2pmodel.gateway.passing import collect, pass_on
from p2pmodel.gateway.response import Call, Header, Response, json_response
from p2pmodel.gateway.routing import ANY, READ, WRITE, Handler, Route, route
from p2pmodel.gateway.uploading import Seals, send_and_keep, succeeded
from p2pmodel.limits import LISTING_BYTES_MAX, XET_UPLOADS_AT_ONCE

_XORB: Final = re.compile(r"(?:/v[0-9])?/xorbs?/default/([0-9a-f]{64})")
_GRANT: Final = re.compile(r"(?:/v[0-9])?/xorb-grants/default/([0-9a-f]{64})")
_SHARD: Final = re.compile(r"(?:/v[0-9])?/shards?(?:/.*)?")
_SESSION_CHARS_MAX: Final = 64


class _Token(msgspec.Struct):
    url: str = msgspec.field(name="casUrl")
    token: str = msgspec.field(name="accessToken")
    expires: int = msgspec.field(name="exp")


class _Event(msgspec.Struct):
    """The last line of what is told of a shard while it is taken, or all of the answer."""

    kind: str = msgspec.field(name="type", default="")


class XetUploadRoutes:
    """The storage's address is `path`/at/…, a granted place `path`/granted/…"""

    def __init__(self, delivery: Delivery, upstreams: Upstreams, seals: Seals, path: str) -> None:
        self._delivery = delivery
        self._upstreams = upstreams
        self._seals = seals
        self._path = path
        self._sending = trio.CapacityLimiter(XET_UPLOADS_AT_ONCE)

    def table(self) -> Sequence[Route]:
        def line(methods: frozenset[str], template: str, handler: Handler) -> Route:
            return route("xet_upload", methods, template, handler, huggingface_failure, takes_body=methods is not READ)

        sealed = r"(?P<seal>[0-9a-f]{40})/(?P<place>[A-Za-z0-9_-]+)"
        path = re.escape(self._path)
        return (
            line(READ, "/api/{kinds}/{repo}/xet-write-token/{revision}", self._token),
            line(ANY, f"{path}/at/{sealed}(?P<rest>(?:/[A-Za-z0-9_-]+)*)", self._storage),
            line(WRITE, f"{path}/granted/{sealed}/(?P<hash>[0-9a-f]{{64}})/(?P<session>[A-Za-z0-9_-]*)", self._granted),
        )

    async def _token(self, call: Call) -> Response:
        answer, body = await collect(await pass_on(self._upstreams, Hub.HUGGINGFACE, call), LISTING_BYTES_MAX)
        if answer.status != HTTPStatus.OK:
            return answer
        try:
            told = msgspec.json.decode(body, type=_Token)
        except (ValueError, RecursionError):
            raise WrongAnswerError("The hub answers no Xet token where one was asked for.") from None
        place = _packed(told.url.rstrip("/"))
        url = f"{call.request.endpoint}{self._path}/at/{self._seals.seal(place)}/{place}"
        return token_answer(url, told.token, told.expires)

    async def _storage(self, call: Call) -> Response:
        place, rest, query = call.values["place"], call.values["rest"], call.request.raw_query
        self._seals.check(place, call.values["seal"])
        url = _unpacked(place) + rest + (f"?{query}" if query else "")
        if call.request.method == "POST":
            session = _packed(call.request.header("x-xet-session-id") or "")[:_SESSION_CHARS_MAX]
            if grant := _GRANT.fullmatch(rest):
                return await self._grant(call, url, grant[1], session)
            if (xorb := _XORB.fullmatch(rest)) and (size := _length(call)) is not None:
                return await self._send(call, self._delivery.xorb(session, xorb[1], size), url, succeeded)
            if _SHARD.fullmatch(rest):
                return await self._send(call, self._delivery.shard(session), url, _shard_taken)
        return await pass_on(self._upstreams, Hub.HUGGINGFACE, call, url=url, own_credential=True)

    async def _grant(self, call: Call, url: str, name: str, session: str) -> Response:
        """Where the hub wants a xorb, as a link to us. What does not look as it should stays: then it goes there past us."""
        passed = await pass_on(self._upstreams, Hub.HUGGINGFACE, call, url=url, own_credential=True)
        answer, body = await collect(passed, LISTING_BYTES_MAX)
        try:
            grant = msgspec.json.decode(body, type=dict[str, Any])
        except (ValueError, RecursionError):
            return answer
        if not isinstance(grant.get("url"), str):  # it has the xorb, or gives none
            return answer
        place = _packed(grant["url"])
        seal = self._seals.seal(f"{place}/{name}/{session}")
        grant["url"] = f"{call.request.endpoint}{self._path}/granted/{seal}/{place}/{name}/{session}"
        return replace(answer, body=msgspec.json.encode(grant))

    async def _granted(self, call: Call) -> Response:
        place, name, session = (call.values[key] for key in ("place", "hash", "session"))
        self._seals.check(f"{place}/{name}/{session}", call.values["seal"])
        size = _length(call)
        if size is None:
            return await pass_on(self._upstreams, Hub.HUGGINGFACE, call, url=_unpacked(place), own_credential=True)
        return await self._send(call, self._delivery.xorb(session, name, size), _unpacked(place), _xorb_taken)

    async def _send(
        self, call: Call, keeping: AbstractAsyncContextManager[Part], url: str, taken: Callable[[int, bytes], bool]
    ) -> Response:
        async with self._sending, keeping as part:
            return await send_and_keep(self._upstreams, Hub.HUGGINGFACE, call, part, url=url, own_credential=True, taken=taken)


def _packed(text: str) -> str:
    """As a segment of a path."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _unpacked(place: str) -> str:
    """What we packed and sealed."""
    return base64.urlsafe_b64decode(place + "=" * (-len(place) % 4)).decode()


def _length(call: Call) -> int | None:
    length = call.request.header("content-length") or ""
    return int(length) if re.fullmatch("[0-9]{1,12}", length) else None


def _xorb_taken(status: int, body: bytes) -> bool:
    """A signed place says "precondition failed" where an earlier try came through."""
    return succeeded(status, body) or status == HTTPStatus.PRECONDITION_FAILED


def _shard_taken(status: int, body: bytes) -> bool:
    """Newer storages say 200 at once and how it went in their last line."""
    if not succeeded(status, body):
        return False
    try:
        return msgspec.json.decode((body.splitlines() or [b"{}"])[-1], type=_Event).kind != "error"
    except (ValueError, RecursionError):
        return False


def token_answer(url: str, token: str, expires: int) -> Response:
    """For Python in headers, for Rust in the body."""
    headers: list[Header] = [
        ("X-Xet-Cas-Url", url),
        ("X-Xet-Access-Token", token),
        ("X-Xet-Token-Expiration", str(expires)),
        ("Cache-Control", "no-store"),
    ]
    return json_response({"casUrl": url, "accessToken": token, "exp": expires}, headers=headers)
