"""Handing a client's request on to its hub as it is: what the gateway does not answer itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

import msgspec

from p2pmodel.content import Hub
from p2pmodel.delivery.ports import HubRequest, Upstreams
from p2pmodel.errors import WrongAnswerError
from p2pmodel.gateway.response import Call, Header, Response, Spans
from p2pmodel.limits import LISTING_BYTES_MAX


async def pass_on(upstreams: Upstreams, hub: Hub, call: Call, body: bytes | None = None) -> Response:
    """The hub's answer, its links to itself turned into links to us. `body` is the request's where it has been read."""
    request = call.request
    sent = call.body if body is None else _once(body)
    asked = HubRequest(hub=hub, method=request.method, target=request.target, headers=request.headers, body=sent)
    answer = await call.held.enter_async_context(await upstreams.pass_on(asked))
    return Response(answer.status, list(_localised(answer.headers, request.endpoint)), answer.body)


async def pass_on_json(upstreams: Upstreams, hub: Hub, call: Call, body: bytes | None = None) -> Response:
    """The same for JSON in which a hub may lead clients to its Xet server, which they would then ask past us."""
    response = await pass_on(upstreams, hub, call, body)
    assert not isinstance(response.body, bytes | Spans)  # `pass_on` streams
    received = await _collect(response.body, LISTING_BYTES_MAX)
    if received is None:
        raise WrongAnswerError(f"The hub answers more than {LISTING_BYTES_MAX} bytes.")
    headers = [(name, value) for name, value in response.headers if name.lower() != "content-length"]
    try:
        cleaned = msgspec.json.encode(_without_xet(msgspec.json.decode(received)))
    except msgspec.DecodeError:  # no JSON, no fields in it
        cleaned = received
    except RecursionError:
        raise WrongAnswerError("The hub answers JSON that is nested too deep.") from None
    return Response(response.status, headers, cleaned)


def _without_xet(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_xet(item) for key, item in value.items() if not key.lower().startswith("xet")}
    return [_without_xet(item) for item in value] if isinstance(value, list) else value


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _localised(headers: Sequence[Header], endpoint: str) -> Iterator[Header]:
    """A hub's page must not live in our origin: it is neither shown in place nor readable for other pages."""
    for name, value in headers:
        if name.lower() != "content-disposition" and not name.lower().startswith("access-control-"):
            yield name, value.replace("{endpoint}", endpoint)


async def read_body(call: Call, bytes_max: int) -> bytes | None:
    """The whole body of a request, None if it is longer than `bytes_max`."""
    return b"" if call.body is None else await _collect(call.body, bytes_max)


async def _collect(pieces: AsyncIterator[bytes], bytes_max: int) -> bytes | None:
    received = bytearray()
    async for piece in pieces:
        received += piece
        if len(received) > bytes_max:
            return None
    return bytes(received)
