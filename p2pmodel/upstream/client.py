"""HTTP towards one upstream.

httpcore2 and not httpx2, whose engine it is: only there may a caller say where a name is connected to, which is how a
redirect is kept off the LAN, and requests keep the exact target that a client wrote. Redirects are followed by hand, a
credential goes to the endpoint's own origin and nowhere else, nothing is asked for compressed, every read is bounded.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeVar

import httpcore2
import msgspec
import trio

from p2pmodel import __version__
from p2pmodel.errors import ConfigError, P2pmodelError, RateLimitedError, UnavailableError, WrongAnswerError
from p2pmodel.limits import (
    HUB_PAGE_TIMEOUT_S,
    HUB_POOL_CONNECTIONS,
    HUB_READ_TIMEOUT_S,
    HUB_REDIRECT_BODY_BYTES_MAX,
    HUB_REDIRECTS_MAX,
    HUB_WRITE_TIMEOUT_S,
    KEEP_ALIVE_S,
    LISTING_BYTES_MAX,
)
from p2pmodel.upstream.connection import GuardedBackend, Wires
from p2pmodel.upstream.endpoint import Upstream
from p2pmodel.upstream.health import Health
from p2pmodel.upstream.patience import Patience
from p2pmodel.upstream.proxies import Proxies
from p2pmodel.upstream.statistics import Statistics
from p2pmodel.upstream.url import Url, is_local_name

Headers = Sequence[tuple[str, str]]
T = TypeVar("T")

_FILES: Final = "files"
_HEX: Final = re.compile(r"[0-9a-f]+")
_FILE: Final = re.compile("/resolve(-cache)?/|[?&]FilePath=")
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_OWN_HEADERS: Final = (("Accept-Encoding", "identity"), ("User-Agent", f"p2pmodel/{__version__}"))


class UnreachableError(UnavailableError):
    """This upstream does not answer, breaks off, or answers 5xx: another try or another upstream may do better. `gone` when
    nothing at all was heard of it; `slow` when it began and did not come to an end."""

    def __init__(self, message: str, *, gone: bool = False, slow: bool = False) -> None:
        super().__init__(message)
        self.gone = gone
        self.slow = slow


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer whose body is still on its way."""

    status: int
    raw_headers: Headers
    headers: Mapping[str, str]  # names in lower case; repeated ones joined by commas
    stated: Mapping[str, str]  # headers of the answers on the endpoint's own origin, the first word on each
    url: Url
    pieces: Callable[[], AsyncGenerator[bytes, None]]  # the body as it comes, once

    @property
    def stated_hash(self) -> str:
        """What the hub itself names a file's content by, "" where it does not. A storage host's ETag is of another kind."""
        etag = self.stated.get("x-linked-etag") or self.stated.get("etag", "")
        named = etag.removeprefix("W/").strip('"')
        return named if _HEX.fullmatch(named) else ""

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises WrongAnswerError if it is longer than `limit` or encoded, UnreachableError if it breaks."""
        if self.headers.get("content-encoding", "identity") != "identity":
            raise WrongAnswerError(f"{self.url.authority} sent an encoded answer, which was not asked for")
        body = bytearray()
        async with aclosing(self.pieces()) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) > limit:
                    raise WrongAnswerError(f"{self.url.authority} sent more than {limit} bytes for an answer of that kind")
        return bytes(body)


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON answer, read."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: Url

    def decode(self, kind: type[T]) -> T:
        """Raises WrongAnswerError if it is not JSON of that shape: a captive portal, a mirror that is no hub."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (ValueError, RecursionError):  # the second: nested too deep
            raise WrongAnswerError(f"{self.url.authority} answered something that no hub answers") from None


class Client:
    """One upstream's connections. `credentials` puts a token into headers, as the hub's dialect wants it."""

    def __init__(
        self,
        upstream: Upstream,
        *,
        credentials: Callable[[str], Headers],
        patience: Patience,
        statistics: Statistics,
        proxies: Proxies,
        wires: Wires,
        connect_timeout_s: float,
    ) -> None:
        self.upstream = upstream
        self.home = upstream.home
        self.statistics = statistics
        self.health = Health()
        self._prefix = self.home.target.rstrip("/")
        self._credentials = credentials
        self._patience = patience
        self._proxies = proxies
        self._wires = wires
        self._timeouts = {
            "connect": connect_timeout_s,
            "pool": HUB_READ_TIMEOUT_S,
            "read": HUB_READ_TIMEOUT_S,
            "write": HUB_READ_TIMEOUT_S,
        }
        self._pools: dict[tuple[str, httpcore2.Proxy | None], httpcore2.AsyncConnectionPool] = {}
        self._tls = _tls_context(upstream) if self.home.scheme == "https" or upstream.ca_file else None

    @property
    def resting_until(self) -> float:
        """Trio time until which its host asked for patience with reads of files, by a peer's word too, else 0."""
        return max(self._patience.until(self.home.authority, _FILES), self._patience.heard(self.home.authority))

    async def aclose(self) -> None:
        async with AsyncExitStack() as stack:
            for pool in self._pools.values():
                stack.push_async_callback(pool.aclose)
            self._pools = {}

    # Asking

    @asynccontextmanager
    async def open(
        self, method: str, target: str, *, token: str | None = None, headers: Headers = (), leave_home: bool = True
    ) -> AsyncIterator[Answer]:
        """The answer after all redirects (without `leave_home`: after those on the endpoint's own origin).

        `target` begins with a slash and is sent as it is. Raises UnreachableError (also for a 5xx), RateLimitedError (also
        while a host rests), WrongAnswerError (a redirect that is refused).
        """
        url = self.at(target)
        stated: dict[str, str] = {}
        for _ in range(HUB_REDIRECTS_MAX + 1):
            self.check_patience(url)
            at_home = url.origin == self.home.origin
            credentials = self._credentials(token) if at_home and token else ()
            async with self.exchange(method, url, [*_OWN_HEADERS, *headers, *credentials]) as answer:
                if at_home:
                    stated = {**answer.headers, **stated}
                onward = self._onward(answer)
                if onward is None or (onward.origin != self.home.origin and not leave_home):
                    self._check_status(answer)
                    yield Answer(answer.status, answer.raw_headers, answer.headers, stated, url, answer.pieces)
                    return
                await _drain(answer)
            url = onward
        raise WrongAnswerError(f"{self.home.authority} redirects more than {HUB_REDIRECTS_MAX} times")

    async def document(self, target: str, *, token: str | None, limit: int = LISTING_BYTES_MAX) -> Document:
        """A JSON answer, whatever its status. Raises as `open`; all of it has to come within HUB_PAGE_TIMEOUT_S."""
        try:
            with trio.fail_after(HUB_PAGE_TIMEOUT_S):
                async with self.open("GET", target, token=token) as answer:
                    return Document(answer.status, answer.headers, await answer.read(limit), answer.url)
        except trio.TooSlowError:
            raise UnreachableError(f"{self.home.authority} is too slow to answer", slow=True) from None

    @asynccontextmanager
    async def exchange(
        self, method: str, url: Url, headers: Headers, content: AsyncIterator[bytes] | None = None, *, patient: bool = False
    ) -> AsyncIterator[Answer]:
        """One request and its answer, as they are. `patient`: it changes something, and that may take the hub minutes. Raises
        UnreachableError."""
        request = httpcore2.Request(
            method,
            httpcore2.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target),
            headers=[(_raw(name), _raw(value)) for name, value in (("Host", url.authority), *headers)],
            content=content,
            extensions={"timeout": {**self._timeouts, "read": HUB_WRITE_TIMEOUT_S} if patient else self._timeouts},
        )
        begun = trio.current_time()
        try:
            with _translated(url, self._proxies.towards(url), head=True):
                response = await self._pool(url).handle_async_request(request)
        except P2pmodelError:
            self.statistics.failed(self.upstream.name)
            self.health.failed(trio.current_time())
            raise
        try:
            answer = _answer(url, response)
            self._note(url, answer.status, trio.current_time() - begun, counts=not patient)
            self._patience.heed(url.authority, answer.status, answer.headers, _kind_of(url))
            yield answer
        finally:
            await response.aclose()

    def _note(self, url: Url, status: int, seconds: float, *, counts: bool) -> None:
        """An answer's head came after so long; what the storage behind a hub takes says nothing of the hub."""
        self.statistics.answered(self.upstream.name, status, seconds)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self.health.failed(trio.current_time())
        elif counts and url.origin == self.home.origin:
            self.health.answered(seconds, trio.current_time())

    def home_target(self, location: str) -> str | None:
        """What a Location or Link that leads to this endpoint leads to, from a gateway's point of view; None elsewhere."""
        try:
            url = self.home.join(location)
        except ValueError:
            return None
        inside = url.origin == self.home.origin and url.target.startswith(self._prefix + "/")
        return url.target.removeprefix(self._prefix) if inside else None

    def at(self, target: str) -> Url:
        """The URL of a target (path and query, from a slash on) of this endpoint."""
        return Url(self.home.scheme, self.home.host, self.home.port, self._prefix + target)

    # Where an answer leads

    def _onward(self, answer: Answer) -> Url | None:
        if answer.status not in _REDIRECTS or "location" not in answer.headers:
            return None
        try:
            onward = answer.url.join(answer.headers["location"])
        except ValueError:
            raise WrongAnswerError(f"{answer.url.authority} redirects to what is no plain web address") from None
        if answer.url.scheme == "https" and onward.scheme != "https":
            raise WrongAnswerError(f"{answer.url.authority} redirects from https to http")
        self.check_leads_out(onward)
        return onward

    def check_leads_out(self, url: Url) -> None:
        """Where the hub sends us, if a proxy goes there for us; without one the connection itself is judged, after the name is
        resolved. Raises WrongAnswerError."""
        if is_local_name(url.host) and not is_local_name(self.home.host) and self._proxies.towards(url):
            raise WrongAnswerError(f"{self.home.authority} leads to {url.host}, which is no host of the internet")

    def check_patience(self, url: Url) -> None:
        self._check_rest(url, self._patience.until(url.authority, _kind_of(url)))

    def check_rest(self) -> None:
        """Before files are read in bulk. Raises RateLimitedError."""
        self._check_rest(self.home, self.resting_until)

    def _check_rest(self, url: Url, until: float) -> None:
        seconds = until - trio.current_time()
        if seconds > 0:
            raise RateLimitedError(f"{url.authority} asks for {seconds:.0f} s of patience", retry_after_s=seconds)

    def _check_status(self, answer: Answer) -> None:
        if answer.status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
            self.check_patience(answer.url)
        if answer.status == HTTPStatus.TOO_MANY_REQUESTS:  # "Retry-After: 0"
            raise RateLimitedError(f"{answer.url.authority} asks for patience", retry_after_s=0.0)
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            slow = answer.status == HTTPStatus.GATEWAY_TIMEOUT
            raise UnreachableError(f"{answer.url.authority} answers {answer.status}", slow=slow)

    # Connections

    def _pool(self, url: Url) -> httpcore2.AsyncConnectionPool:
        proxy = self._proxies.towards(url)
        key = (url.scheme, proxy)
        if key not in self._pools:
            if url.scheme == "https" and self._tls is None:
                self._tls = _tls_context(self.upstream)
            self._pools[key] = httpcore2.AsyncConnectionPool(
                ssl_context=self._tls,
                proxy=proxy,
                max_connections=HUB_POOL_CONNECTIONS,
                keepalive_expiry=KEEP_ALIVE_S,
                network_backend=GuardedBackend(self._wires, None if proxy else self.home),
            )
        return self._pools[key]


def _kind_of(url: Url) -> str:
    """What hubs count apart: their files, and all else."""
    return _FILES if _FILE.search(url.target) else ""


def _answer(url: Url, response: httpcore2.Response) -> Answer:
    raw = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers]
    headers: dict[str, str] = {}
    for name, value in raw:
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value

    async def pieces() -> AsyncGenerator[bytes, None]:
        with _translated(url):
            async with aclosing(response.aiter_stream()) as stream:
                async for piece in stream:
                    yield piece

    return Answer(response.status, raw, headers, headers, url, pieces)


def _raw(text: str) -> bytes:
    """A header as it came: clients may write bytes beyond ASCII, and a pasted token may hold what no hub ever gave."""
    return text.encode("latin-1", "replace")


async def _drain(answer: Answer) -> None:
    """Read a short body, so that the connection can be used again."""
    length = answer.headers.get("content-length", "")
    if length.isdecimal() and int(length[:9]) <= HUB_REDIRECT_BODY_BYTES_MAX:
        await answer.read(HUB_REDIRECT_BODY_BYTES_MAX)


@contextmanager
def _translated(url: Url, proxy: httpcore2.Proxy | None = None, *, head: bool = False) -> Iterator[None]:
    """httpcore2's errors as ours. Their texts name hosts and causes, never headers."""
    try:
        yield
    except (httpcore2.ConnectError, httpcore2.ConnectTimeout, httpcore2.ProxyError) as error:
        way = f" through the proxy {proxy.url.host.decode('ascii', 'replace')}:{proxy.url.port}" if proxy else ""
        raise UnreachableError(f"{url.authority} cannot be reached{way} ({error})", gone=True) from error
    except httpcore2.PoolTimeout as error:
        raise UnreachableError(f"too many requests to {url.authority} at once") from error
    except httpcore2.TimeoutException as error:
        raise UnreachableError(f"{url.authority} does not answer in time", gone=head) from error
    except (httpcore2.NetworkError, httpcore2.RemoteProtocolError) as error:
        raise UnreachableError(f"{url.authority} broke the connection ({error})") from error
    except httpcore2.LocalProtocolError:  # its text would quote the header
        raise UnreachableError(f"a request to {url.authority} cannot be written as HTTP") from None


def _tls_context(upstream: Upstream) -> ssl.SSLContext:
    if upstream.ca_file is None:
        return httpcore2.default_ssl_context()
    try:
        return ssl.create_default_context(cafile=upstream.ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"The ca_file of upstream {upstream.name} cannot be read: {error.strerror or error}.",
            next_step="It has to be a PEM file of certificates that this user may read.",
        ) from None
