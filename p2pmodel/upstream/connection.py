"""Connections to hubs, as httpcore2 wants them, with a say in where they lead.

A hub chooses where it redirects us, so a name is resolved here, every address it has is judged, and the connection goes
to a judged address: nothing resolves the name a second time. TCP_USER_TIMEOUT ends a connection whose other end vanished
as fast as a connect fails, without limiting how long a live hub may think.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import httpcore2
import trio

from p2pmodel.errors import WrongAnswerError
from p2pmodel.limits import HUB_CONNECT_TIMEOUT_S, KIB
from p2pmodel.upstream.url import Url, is_global

T = TypeVar("T")

_READ_BYTES: Final = 256 * KIB
_USER_TIMEOUT_MS: Final = round(HUB_CONNECT_TIMEOUT_S * 1000)


async def resolve(host: str, port: int) -> list[str]:
    """The IP addresses of a name, best first. Raises OSError."""
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


async def dial(address: str, port: int) -> trio.abc.Stream:
    """Raises OSError."""
    stream = await trio.open_tcp_stream(address, port)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
    return stream


@dataclass(frozen=True, slots=True)
class Wires:
    """The seam to the network; a test or a simulation brings its own."""

    resolve: Callable[[str, int], Awaitable[list[str]]] = resolve
    dial: Callable[[str, int], Awaitable[trio.abc.Stream]] = dial


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Dials for one upstream. `home` is its endpoint: that leads wherever the user configured it, everything else to the
    internet only, unless the endpoint itself is local. Without a `home` (towards a proxy) nothing is judged."""

    def __init__(self, wires: Wires, home: Url | None) -> None:
        self._wires = wires
        self._home = home

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore2's interface
        local_address: str | None = None,  # noqa: ARG002  # httpcore2's interface
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,  # noqa: ARG002  # httpcore2's interface
    ) -> httpcore2.AsyncNetworkStream:
        with _mapped(httpcore2.ConnectTimeout, httpcore2.ConnectError, timeout):
            addresses = await self._wires.resolve(host, port)
            await self._judge(host, port, addresses)
            return _Stream(await self._dial_one_of(addresses, port))

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    async def _judge(self, host: str, port: int, addresses: list[str]) -> None:
        home = self._home
        if home is None or (host, port) == (home.host, home.port) or all(map(is_global, addresses)):
            return
        if all(map(is_global, await self._wires.resolve(home.host, home.port))):
            raise WrongAnswerError(f"{home.authority} redirects to {host}, which is no address of the internet")

    async def _dial_one_of(self, addresses: list[str], port: int) -> trio.abc.Stream:
        """Each address in turn gets an equal share of the time that is left, the last one all of it."""
        deadline = trio.current_effective_deadline()
        failure: OSError = OSError("no address")
        for left in range(len(addresses), 0, -1):
            share = (deadline - trio.current_time()) / left
            with trio.move_on_after(share):
                try:
                    return await self._wires.dial(addresses[-left], port)
                except OSError as error:
                    failure = error
        raise failure


class _Stream(httpcore2.AsyncNetworkStream):
    """A trio stream behind httpcore2's interface. It reads more at a time than httpcore2 asks for, as each piece passes
    through four layers of it."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002, ASYNC109  # its interface
        with _mapped(httpcore2.ReadTimeout, httpcore2.ReadError, timeout):
            return await self._receive()

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  # httpcore2's interface
        with _mapped(httpcore2.WriteTimeout, httpcore2.WriteError, timeout):
            await self._send(buffer)

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore2's interface
    ) -> httpcore2.AsyncNetworkStream:
        secure = _TlsStream(self, ssl_context, server_hostname)
        try:
            with _mapped(httpcore2.ConnectTimeout, httpcore2.ConnectError, timeout):
                await secure.shake_hands()
        except BaseException:
            await trio.aclose_forcefully(self._stream)
            raise
        return secure

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401  # httpcore2's interface
        if info == "is_readable":  # of an idle connection: the other end has closed it
            return isinstance(self._stream, trio.SocketStream) and self._stream.socket.is_readable()
        return None

    async def _receive(self) -> bytes:
        return bytes(await self._stream.receive_some(_READ_BYTES))

    async def _send(self, data: bytes) -> None:
        await self._stream.send_all(data)


class _TlsStream(_Stream):
    """TLS over another one. trio.SSLStream hands out one record of 16 KiB at a time, at 2.4 times the CPU a byte; HTTP/1.1
    never reads and writes at once, so none of its care for that is needed."""

    def __init__(self, carrier: _Stream, context: ssl.SSLContext, server_hostname: str | None) -> None:
        super().__init__(carrier._stream)  # noqa: SLF001  # of its own kind
        self._carrier = carrier
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        self._records = memoryview(bytearray(_READ_BYTES))

    async def shake_hands(self) -> None:
        await self._through(self._tls.do_handshake)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401  # httpcore2's interface
        return self._tls if info == "ssl_object" else super().get_extra_info(info)

    async def _receive(self) -> bytes:
        return await self._through(self._open_records)

    async def _send(self, data: bytes) -> None:
        await self._through(lambda: self._tls.write(data))

    def _open_records(self) -> bytes:
        """What is in all the records that are here; b"" at the end."""
        filled = 0
        try:
            while filled < _READ_BYTES:
                count = self._tls.read(_READ_BYTES - filled, cast("bytearray", self._records[filled:]))
                if not count:
                    break
                filled += cast("int", count)  # which it is when a buffer is given
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            pass  # a body's length says whether it ended too early
        except ssl.SSLWantReadError:
            if not filled:
                raise
        return bytes(self._records[:filled])

    async def _through(self, call: Callable[[], T]) -> T:
        """The result of a call that may need bytes from the other end, or leave some for it."""
        while True:
            try:
                result = call()
            except ssl.SSLWantReadError:
                await self._flush()
                received = await self._carrier._receive()  # noqa: SLF001  # of its own kind
                if received:
                    self._incoming.write(received)
                else:
                    self._incoming.write_eof()
            else:
                await self._flush()
                return result

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._carrier._send(self._outgoing.read())  # noqa: SLF001  # of its own kind


@contextmanager
def _mapped(late: type[Exception], broken: type[Exception], timeout: float | None) -> Iterator[None]:
    """A deadline, and trio's and the system's errors as httpcore2's."""
    try:
        with trio.fail_after(float("inf") if timeout is None else timeout):
            yield
    except trio.TooSlowError as error:
        raise late("too slow") from error
    except (trio.BrokenResourceError, trio.ClosedResourceError, OSError, UnicodeError) as error:  # the last: "a..b" is no name
        raise broken(_words(error)) from error


def _words(error: BaseException) -> str:
    """What a person is told: the system's reason, out of what trio wraps it in."""
    cause = error.__cause__ or error
    while isinstance(cause, BaseExceptionGroup):  # an attempt for each address
        cause = cause.exceptions[0]
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {cause.verify_message}; ca_file of its [[upstream]] can name the authority"
    if isinstance(cause, socket.gaierror):
        return cause.strerror or str(cause)
    if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError) and cause.errno:
        return os.strerror(cause.errno)
    return str(cause)
