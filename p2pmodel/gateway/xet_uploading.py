"""Uploads by Xet through us: newer versions of huggingface_hub know no other way, where hf_xet is installed.

The hub answers their question for a token with the address of its storage. They get an address of ours instead, which
carries that one along, sealed; whatever they ask below it goes there as a stream, with the token that the hub gave them for
it. Of xorbs and shards a copy stays (`Delivery.xorb`, `Delivery.shard`); what becomes of it is no business of theirs.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from typing import Final

import msgspec
import trio

from p2pmodel.content import Hub
from p2pmodel.delivery.ports import Delivery, Part, Upstreams
from p2pmodel.errors import WrongAnswerError
from p2pmodel.gateway.failures import huggingface_failure
from p2pmodel.gateway.passing import collect, pass_on
from p2pmodel.gateway.request import BadRequestError
from p2pmodel.gateway.response import Call, Header, Response, json_response
from p2pmodel.gateway.routing import ANY, READ, Route, route
from p2pmodel.gateway.uploading import Seals, send_and_keep
from p2pmodel.limits import LISTING_BYTES_MAX, XET_UPLOADS_AT_ONCE

_XORB: Final = re.compile(r"(?:/v[0-9])?/xorbs?/default/([0-9a-f]{64})")
_SHARD: Final = re.compile(r"(?:/v[0-9])?/shards?(?:/.*)?")
_SESSION_CHARS_MAX: Final = 64


class _Token(msgspec.Struct):
    url: str = msgspec.field(name="casUrl")
    token: str = msgspec.field(name="accessToken")
    expires: int = msgspec.field(name="exp")


class XetUploadRoutes:
    """The storage's address is `path`/at/…"""

    def __init__(self, delivery: Delivery, upstreams: Upstreams, seals: Seals, path: str) -> None:
        self._delivery = delivery
        self._upstreams = upstreams
        self._seals = seals
        self._path = f"{path}/at/"
        self._sending = trio.CapacityLimiter(XET_UPLOADS_AT_ONCE)

    def table(self) -> Sequence[Route]:
        template = re.escape(self._path) + r"(?P<seal>[0-9a-f]{40})/(?P<place>[A-Za-z0-9_-]+)(?P<rest>(?:/[A-Za-z0-9_-]+)*)"
        token = "/api/{kinds}/{repo}/xet-write-token/{revision}"  # noqa: S105  # where to ask for it
        return (
            route("xet_upload", READ, token, self._token, huggingface_failure),
            route("xet_upload", ANY, template, self._pass_on, huggingface_failure, takes_body=True),
        )

    async def _token(self, call: Call) -> Response:
        answer, body = await collect(await pass_on(self._upstreams, Hub.HUGGINGFACE, call), LISTING_BYTES_MAX)
        if answer.status != HTTPStatus.OK:
            return answer
        try:
            told = msgspec.json.decode(body, type=_Token)
        except (ValueError, RecursionError):
            raise WrongAnswerError("The hub answers no Xet token where one was asked for.") from None
        place = base64.urlsafe_b64encode(told.url.rstrip("/").encode()).decode().rstrip("=")
        return token_answer(f"{call.request.endpoint}{self._path}{self._seals.seal(place)}/{place}", told.token, told.expires)

    async def _pass_on(self, call: Call) -> Response:
        url = self._url(call)
        kept = self._kept(call) if call.request.method == "POST" else None
        if kept is None:
            return await pass_on(self._upstreams, Hub.HUGGINGFACE, call, url=url, own_credential=True)
        async with self._sending, kept as part:
            return await send_and_keep(self._upstreams, Hub.HUGGINGFACE, call, part, url=url, own_credential=True)

    def _url(self, call: Call) -> str:
        """Where at the hub's storage this leads. Raises BadRequestError for a link that is none of ours."""
        place = call.values["place"]
        self._seals.check(place, call.values["seal"])
        try:
            storage = base64.urlsafe_b64decode(place + "=" * (-len(place) % 4)).decode()
        except (binascii.Error, UnicodeDecodeError):  # we wrote it
            raise BadRequestError("This is no link for an upload.") from None
        query = call.request.raw_query
        return storage + call.values["rest"] + (f"?{query}" if query else "")

    def _kept(self, call: Call) -> AbstractAsyncContextManager[Part] | None:
        """Where a copy goes; None for what is none of a file's bytes."""
        session = (call.request.header("x-xet-session-id") or "")[:_SESSION_CHARS_MAX]
        length = call.request.header("content-length") or ""
        if (xorb := _XORB.fullmatch(call.values["rest"])) and re.fullmatch("[0-9]{1,12}", length):
            return self._delivery.xorb(session, xorb[1], int(length))
        return self._delivery.shard(session) if _SHARD.fullmatch(call.values["rest"]) else None


def token_answer(url: str, token: str, expires: int) -> Response:
    """For Python in headers, for Rust in the body."""
    headers: list[Header] = [
        ("X-Xet-Cas-Url", url),
        ("X-Xet-Access-Token", token),
        ("X-Xet-Token-Expiration", str(expires)),
        ("Cache-Control", "no-store"),
    ]
    return json_response({"casUrl": url, "accessToken": token, "exp": expires}, headers=headers)
