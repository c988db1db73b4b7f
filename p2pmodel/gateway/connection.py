"""One client's connection: requests in, answers out, one after the other.

h11 parses heads and keeps the state; bodies pass it by length only, so that sendfile can move them. An answer is sent in
one piece with its head where it is small. A failure before the head is a proper error; after it nothing true can be said
any more, so the body ends short, with FIN, and the client resumes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, Protocol

import h11
import trio

from p2pmodel.errors import P2pmodelError, ShortAnswerError, WrongAnswerError, first_error
from p2pmodel.gateway.failures import plain_failure
from p2pmodel.gateway.gate import SAFETY_HEADERS
from p2pmodel.gateway.interim import interim_response
from p2pmodel.gateway.request import BadRequestError, Request
from p2pmodel.gateway.response import Call, Header, Response, Spans, refusal
from p2pmodel.gateway.routing import Failure, Route
from p2pmodel.gateway.statistics import GatewayStatistics
from p2pmodel.gateway.stream import Stream
from p2pmodel.gateway.vigil import Vigil, Wait
from p2pmodel.limits import (
    KEEP_ALIVE_S,
    REQUEST_BODY_TIMEOUT_S,
    REQUEST_HEAD_BYTES_MAX,
    REQUEST_HEAD_TIMEOUT_S,
)

_NO_CONTENT: Final = frozenset({204, 304})
_PHRASES: Final = {status.value: status.phrase.encode() for status in HTTPStatus}  # clients show them in their errors


class Lobby(Protocol):
    """Where connections wait until a request's head is there; a scope in it may be cancelled to make room or to shut down."""

    @property
    def closing(self) -> bool:
        """Whether a connection should end instead of waiting for another request."""

    def enter(self, scope: trio.CancelScope) -> None: ...

    def leave(self, scope: trio.CancelScope) -> None: ...


class Gate(Protocol):
    def check(self, request: Request) -> Response | None:
        """The refusal, or None for a request that may pass."""

    def without_token(self, request: Request) -> Request:
        """The request as the routes may see it."""


class Routing(Protocol):
    def find(self, request: Request) -> tuple[Route, dict[str, str]] | None: ...


@dataclass(frozen=True, slots=True)
class Desk:
    """What all connections of a gateway share."""

    gate: Gate
    routes: Routing
    vigil: Vigil
    lobby: Lobby
    statistics: GatewayStatistics
    scheme: str = "http"


@dataclass(slots=True)
class Exchange:
    """A request and what becomes of it."""

    request: Request
    route: str = "refused"
    failure: Failure = plain_failure
    started: float = field(default_factory=trio.current_time)


class ClientConnection:
    def __init__(self, stream: Stream, desk: Desk, reached: frozenset[str] = frozenset()) -> None:
        self._stream = stream
        self._reached = reached
        self._desk = desk
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=REQUEST_HEAD_BYTES_MAX)
        self._returning = False  # a new client has something to say; one that had its answer may come back later

    async def run(self) -> None:
        """Serve until either end is done. Never raises but for bugs."""
        try:
            while await self._serve_one():
                self._http.start_next_cycle()
                self._returning = True
            if self._http.our_state is not h11.IDLE:  # between requests nothing can be lost
                await self._stream.finish()
        except* trio.BrokenResourceError:
            pass  # the client is gone
        finally:
            self._stream.close()

    async def _serve_one(self) -> bool:
        """Answer one request. Returns whether another may follow."""
        head = None
        try:
            head = await self._receive_head()
            if head is None:
                return False
            request = replace(_read(head), scheme=self._desk.scheme, reached=self._reached)
        except h11.RemoteProtocolError as error:
            await self._refuse(error.error_status_hint, "This is no HTTP request that we read.", head)
        except BadRequestError as error:
            await self._refuse(400, str(error), head)
        else:
            await self._exchange(Exchange(request), _has_body(head))
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _receive_head(self) -> h11.Request | None:
        event = self._http.next_event()
        if event is h11.NEED_DATA:
            if self._returning and self._desk.lobby.closing:
                return None
            with trio.CancelScope() as scope:
                self._desk.lobby.enter(scope)
                try:
                    if not await self._first_bytes():
                        return None
                    with trio.move_on_after(REQUEST_HEAD_TIMEOUT_S):
                        while (event := self._http.next_event()) is h11.NEED_DATA:
                            self._http.receive_data(await self._stream.receive())
                finally:
                    self._desk.lobby.leave(scope)
            if scope.cancelled_caught:  # somebody else needs the place
                return None
        if event is h11.NEED_DATA:
            await self._refuse(408, "The head of the request took too long.")
        return event if isinstance(event, h11.Request) else None

    async def _first_bytes(self) -> bool:
        data = b""
        with trio.move_on_after(KEEP_ALIVE_S if self._returning else REQUEST_HEAD_TIMEOUT_S):
            data = await self._stream.receive()
            self._http.receive_data(data)
        return bool(data)

    async def _refuse(self, status: int, message: str, head: h11.Request | None = None) -> None:
        if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            response = refusal(status, message, ("Connection", "close"))
            await self._send(head.method.decode("ascii") if head else "GET", response)
            self._desk.statistics.answered("refused", response.status, 0.0)

    # One request

    async def _exchange(self, exchange: Exchange, has_body: bool) -> None:  # noqa: FBT001  # a fact of the head
        user_agent = exchange.request.header("user-agent")
        wait = Wait(self._stream, interim_response(user_agent, exchange.request.http_version))
        self._desk.vigil.begin(wait)
        failure: P2pmodelError | None = None
        status = 0
        try:
            with wait.scope:
                async with AsyncExitStack() as held:
                    response = await self._answer(exchange, has_body, held)
                    self._desk.vigil.end(wait)
                    status = response.status
                    await self._send(exchange.request.method, response)
        except* P2pmodelError as group:
            failure = first_error(group)
        finally:
            self._desk.vigil.end(wait)
        if wait.scope.cancelled_caught:
            raise trio.BrokenResourceError("the client has left")
        if failure is not None:
            status = await self._fail(exchange, failure) or status
        self._desk.statistics.answered(exchange.route, status, trio.current_time() - exchange.started)

    async def _answer(self, exchange: Exchange, has_body: bool, held: AsyncExitStack) -> Response:  # noqa: FBT001  # as above
        request = exchange.request
        if not has_body:
            self._http.next_event()  # the end of the message
        refused = self._desk.gate.check(request)
        if refused is not None:
            return refused
        request = self._desk.gate.without_token(request)
        try:
            found = self._desk.routes.find(request)
            if found is None:
                return refusal(405, "There is nothing here for this method.")
            route, values = found
            exchange.route, exchange.failure = route.name, route.failure
            if has_body and not route.takes_body:
                return refusal(400, "This request takes no body.")
            body = _RequestBody(self._stream, self._http) if has_body else None
            return await route.handler(Call(request, values, body, held))
        except BadRequestError as error:
            return refusal(400, str(error))

    async def _fail(self, exchange: Exchange, failure: P2pmodelError) -> int | None:
        """Say what went wrong, if the head has not been sent (returns the status); else end short."""
        if self._http.our_state is h11.SEND_RESPONSE:
            response = exchange.failure(failure)
            await self._send(exchange.request.method, response)
            return response.status
        self._http.send_failed()
        self._desk.statistics.broken += 1
        return None

    # The answer

    async def _send(self, method: str, response: Response) -> None:
        head = self._http.send(self._head(response))
        try:
            if method == "HEAD" or response.status in _NO_CONTENT:
                await self._stream.send_all(head)
            elif isinstance(response.body, bytes):
                await self._stream.send_all(head + self._framed(response.body))
            elif isinstance(response.body, Spans):
                await self._send_spans(head, response.body)
            else:
                await self._send_pieces(head, response.body)
            await self._stream.send_all(self._http.send(h11.EndOfMessage()))
        except h11.LocalProtocolError as error:
            raise ShortAnswerError(f"A body is not as long as its head said: {error}") from error

    def _head(self, response: Response) -> h11.Response:
        """Raises WrongAnswerError where a hub whose answer is handed on wrote what we cannot: ours are always plain."""
        headers = [
            (name.encode("latin-1"), value.strip().encode("latin-1", "replace")) for name, value in self._headers(response)
        ]
        try:
            return h11.Response(status_code=response.status, headers=headers, reason=_PHRASES.get(response.status, b""))
        except h11.LocalProtocolError as error:
            raise WrongAnswerError("The hub's answer cannot be written as HTTP.") from error

    def _headers(self, response: Response) -> list[Header]:
        headers = [("Date", formatdate(usegmt=True)), *response.headers, *SAFETY_HEADERS]
        named = {name.lower() for name, _ in response.headers}
        if "content-disposition" not in named:
            headers.append(("Content-Disposition", "attachment"))
        if isinstance(response.body, bytes) and "content-length" not in named and response.status not in _NO_CONTENT:
            headers.append(("Content-Length", str(len(response.body))))
        unread = self._http.their_state not in {h11.DONE, h11.MUST_CLOSE}
        if (unread or self._desk.lobby.closing) and "connection" not in named:
            headers.append(("Connection", "close"))
        return headers

    def _framed(self, data: bytes) -> bytes:
        self._desk.statistics.bytes_out += len(data)
        return self._http.send(h11.Data(data=data)) or b"" if data else b""

    async def _send_spans(self, head: bytes, spans: Spans) -> None:
        span = spans.first
        if span is None:
            await self._stream.send_all(head)
        while span is not None:
            with span:
                self._http.send_with_data_passthrough(h11.Data(data=_Sized(span.length)))  # type: ignore[arg-type]  # h11 only asks for its length
                await self._stream.send_file(span.fd, span.offset, span.length, head=head)
            self._desk.statistics.bytes_out += span.length
            head = b""
            span = await spans.reader.next_span()

    async def _send_pieces(self, head: bytes, pieces: AsyncIterator[bytes]) -> None:
        await self._stream.send_all(head)
        async for piece in pieces:
            await self._stream.send_all(self._framed(piece))


class _RequestBody:
    """A request's body, piece by piece; a client that waits for `100 Continue` gets it with the first ask."""

    def __init__(self, stream: Stream, http: h11.Connection) -> None:
        self._stream = stream
        self._http = http

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._http.they_are_waiting_for_100_continue:
            await self._stream.send_all(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._receive())
        except h11.RemoteProtocolError as error:
            raise trio.BrokenResourceError("the client's body broke off") from error
        if not isinstance(event, h11.Data):
            raise StopAsyncIteration
        return bytes(event.data)

    async def _receive(self) -> bytes:
        with trio.move_on_after(REQUEST_BODY_TIMEOUT_S):
            return await self._stream.receive()
        raise trio.BrokenResourceError("the client sends nothing")


class _Sized:
    """Stands for so many bytes that pass h11 by."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length


def _read(head: h11.Request) -> Request:
    if sum(len(name) + len(value) for name, value in head.headers) + len(head.target) > REQUEST_HEAD_BYTES_MAX:
        # h11 bounds only what is incomplete, and a head may come in one piece.
        raise h11.RemoteProtocolError("The head of the request is too long", error_status_hint=431)
    names = {name for name, _ in head.headers}
    if b"content-length" in names and b"transfer-encoding" in names:
        raise BadRequestError("A request has one length, not Content-Length and Transfer-Encoding")
    target = head.target.decode("ascii")
    if not target.startswith("/"):
        raise BadRequestError("The request target must be a path")
    headers = [(name.decode("ascii"), value.decode("latin-1")) for name, value in head.headers]
    return Request(head.method.decode("ascii"), target, headers, head.http_version.decode("ascii"))


def _has_body(head: h11.Request) -> bool:
    return any(name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in head.headers)
