"""Handing a client's request on to its hub as it is: what the gateway does not answer itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace

import msgspec

from p2pmodel.content import Hub
from p2pmodel.delivery.ports import HubRequest, Upstreams
from p2pmodel.errors import WrongAnswerError
from p2pmodel.gateway.response import Call, Header, Response, Spans
from p2pmodel.limits import LISTING_BYTES_MAX


async def pass_on(
    upstreams: Upstreams, hub: Hub, call: Call, body: bytes | None = None, *, url: str = "", own_credential: bool = False
) -> Response:
    """The hub's answer, its links to itself turned into links to us. `body` is the request's where it has been read, `url`
    where the hub wants an upload's bytes, `own_credential` whether the request's is for there."""
    return (await pass_on_from(upstreams, hub, call, body, url=url, own_credential=own_credential))[0]


async def pass_on_from(
    upstreams: Upstreams, hub: Hub, call: Call, body: bytes | None = None, *, url: str = "", own_credential: bool = False
) -> tuple[Response, str]:
    """The same, and the endpoint that answered."""
    request, headers, sent = call.request, call.request.headers, call.body
    if body is not None:  # it may have been changed
        sent = _once(body)
        headers = [(name, value) for name, value in headers if name != "content-length"]
        headers.append(("content-length", str(len(body))))
    asked = HubRequest(hub, request.method, request.target, headers, sent, url=url, own_credential=own_credential)
    answer = await call.held.enter_async_context(await upstreams.pass_on(asked))
    return Response(answer.status, list(_localised(answer.headers, request.endpoint)), answer.body), answer.home


async def collect(response: Response, bytes_max: int) -> tuple[Response, bytes]:
    """The answer with its body read whole, and that body. Raises WrongAnswerError."""
    if isinstance(response.body, bytes):
        return response, response.body
    assert not isinstance(response.body, Spans)  # `pass_on` streams
    received = await _collect(response.body, bytes_max)
    if received is None:
        raise WrongAnswerError(f"The hub answers more than {bytes_max} bytes.")
    headers = [(name, value) for name, value in response.headers if name.lower() != "content-length"]
    return Response(response.status, headers, received), received


async def pass_on_json(upstreams: Upstreams, hub: Hub, call: Call, body: bytes | None = None) -> Response:
    """The same for JSON in which a hub may lead clients to its Xet server, which they would then ask past us."""
    response, received = await collect(await pass_on(upstreams, hub, call, body), LISTING_BYTES_MAX)
    try:
        return replace(response, body=msgspec.json.encode(_without_xet(msgspec.json.decode(received))))
    except ValueError:  # no JSON, no fields in it
        return response
    except RecursionError:
        raise WrongAnswerError("The hub answers JSON that is nested too deep.") from None


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
