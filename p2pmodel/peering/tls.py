"""Membership proven by TLS 1.3, both sides, and the stream that comes of it.

The stream drives an `ssl.SSLObject` itself: `trio.SSLStream` gives one 16 KiB record a call, each a fresh bytes object,
while `read` into a waiting buffer until the records run out halves the cost (benchmarks/peer_transfer.py).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import ssl
from collections.abc import Callable
from typing import Final

import trio
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from p2pmodel.content import NodeId
from p2pmodel.errors import OtherVersionError, StrangerError
from p2pmodel.limits import DIAL_TURNS_MAX, HANDSHAKE_TIMEOUT_S, MIB
from p2pmodel.network import Address, ByteStream
from p2pmodel.peering.live_membership import Memberships
from p2pmodel.peering.membership import Membership, read_certificate

ALPN: Final = "p2pmodel/1"
_PIECE_BYTES: Final = 256 * 1024
_STEP_BYTES_MAX: Final = MIB  # decrypted in one go: 1 ms
_CLOSE_TIMEOUT_S: Final = 1.0


class TlsSecure:
    """The `Secure` of a real cluster."""

    def __init__(self, membership: Membership) -> None:
        self._turns: dict[Address, int] = {}
        self.renew(Memberships(membership))

    def renew(self, memberships: Memberships) -> None:
        """Who we are and whom we let in from now on. A dialler says (as SNI) under which authority it wants to meet."""
        self.memberships = memberships
        self._clients = [(each.tag, _context(each, server=False)) for each in memberships.accepted]
        servers = {each.tag: _context(each, server=True) for each in memberships.accepted}
        self._client, self._server = self._clients[0][1], servers[memberships.current.tag]

        def choose(tls: ssl.SSLObject, tag: str | None, _context: ssl.SSLContext) -> None:
            tls.context = servers.get(tag or "", self._server)

        self._server.sni_callback = choose

    def trusts(self, stream: ByteStream) -> bool:
        """Whether who proved itself on this stream would be let in now."""
        return isinstance(stream, TlsStream) and self.memberships.trusts(stream.certificate, dt.datetime.now(dt.UTC))

    async def wrap_dialled(self, stream: ByteStream, under: bytes = b"") -> tuple[ByteStream, NodeId]:
        """While the cluster changes its key, the other end may know only one of two: each dial tries the other, unless it is
        known."""
        for tag, context in self._clients:
            if tag == under.hex():
                return await self._wrap(TlsStream(stream, context, server=False, tag=tag))
        turn = self._turns.get(stream.remote, 0) % len(self._clients)
        tag, context = self._clients[turn]
        try:
            return await self._wrap(TlsStream(stream, context, server=False, tag=tag))
        except StrangerError:
            if len(self._clients) > 1:
                if len(self._turns) >= DIAL_TURNS_MAX:
                    self._turns.clear()
                self._turns[stream.remote] = turn + 1
            raise

    async def wrap_accepted(
        self, stream: ByteStream, answering: Callable[[], None] = lambda: None
    ) -> tuple[ByteStream, NodeId]:
        return await self._wrap(TlsStream(stream, self._server, server=True), answering)

    async def _wrap(self, stream: TlsStream, answering: Callable[[], None] = lambda: None) -> tuple[ByteStream, NodeId]:
        try:
            with trio.fail_after(HANDSHAKE_TIMEOUT_S):
                node = await stream.handshake(answering)
        except trio.TooSlowError:
            raise StrangerError("the other end did not finish the handshake in time") from None
        except (trio.BrokenResourceError, ValueError) as error:
            raise StrangerError(f"the handshake failed: {error}") from error
        issuer = self.memberships.issuer(stream.certificate)
        if issuer is None or not self.trusts(stream):
            raise StrangerError(f"node {node} is denied")
        stream.issuer = issuer
        return stream, node


def _context(membership: Membership, *, server: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # a peer is its key, not its address
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if server:
        context.num_tickets = 0  # no resumption: every connection proves both keys
    context.set_alpn_protocols([ALPN])
    context.load_verify_locations(cadata=_pem(membership.authority))
    key = membership.identity.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # `ssl` takes a certificate and its key only from a file: give it one that never reaches a disk.
    with os.fdopen(os.memfd_create("p2pmodel-certificate", os.MFD_CLOEXEC), "wb") as file:
        file.write(_pem(membership.certificate).encode() + key)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    return context


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


class TlsStream(ByteStream):
    """TLS over another stream. One task may send while another receives."""

    certificate: x509.Certificate  # of the other end, once the handshake is done
    issuer: Membership  # under which it was let in

    def __init__(self, stream: ByteStream, context: ssl.SSLContext, *, server: bool, tag: str | None = None) -> None:
        self._stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server, server_hostname=tag)
        self._raw = memoryview(bytearray(_PIECE_BYTES))
        self._flushing = trio.Lock()  # records must leave in the order in which they were sealed
        self._peeked = b""

    @property
    def remote(self) -> Address:
        return self._stream.remote

    @property
    def local(self) -> Address:
        return self._stream.local

    @property
    def cluster(self) -> bytes:
        return bytes.fromhex(self.issuer.tag)

    async def handshake(self, answering: Callable[[], None] = lambda: None) -> NodeId:
        """Returns whose certificate the other end proved. Raises BrokenResourceError, OtherVersionError, or ValueError for an
        odd certificate."""
        done = False
        while not done:
            try:
                self._tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                if self._outgoing.pending:  # a whole ClientHello, and a good one
                    answering()
                await self._flush()
                await self._receive_records()
            except ssl.SSLError as error:
                await self._tell_alert()
                raise _broken(error) from error
        await self._flush()
        if self._tls.selected_alpn_protocol() != ALPN:
            raise OtherVersionError(f"the other end does not speak {ALPN}")
        certificate = self._tls.getpeercert(binary_form=True)
        assert certificate is not None  # CERT_REQUIRED
        self.certificate, node = read_certificate(certificate)
        return node

    async def peek(self) -> bytes:
        if not self._peeked:
            self._peeked = await self.receive_some(1)
        return self._peeked

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        buffer = bytearray(max_bytes or _PIECE_BYTES)
        count = await self.receive_into(memoryview(buffer))
        return bytes(memoryview(buffer)[:count])

    async def receive_into(self, buffer: memoryview) -> int:
        if self._peeked:
            buffer[:1], self._peeked = self._peeked, b""
            return 1
        buffer = buffer[:_STEP_BYTES_MAX]
        waited = False
        while True:
            count, ended = self._open_records(buffer)
            if count or ended:
                break
            await self._flush()  # the answer to a key update
            await self._receive_records()
            waited = True
        if not waited:
            await trio.lowlevel.checkpoint()
        return count

    def _open_records(self, buffer: memoryview) -> tuple[int, bool]:
        """Decrypt what has come, as far as the buffer goes: (bytes, whether the other end has closed)."""
        count = 0
        try:
            while count < len(buffer):
                opened: int = self._tls.read(len(buffer) - count, buffer[count:])  # type: ignore[assignment]  # typeshed forgets this form
                if not opened:
                    return count, True
                count += opened
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            raise _broken(error) from error
        return count, False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with memoryview(data) as view:
            for start in range(0, len(view), _PIECE_BYTES):
                piece = view[start : start + _PIECE_BYTES]
                while piece:
                    try:
                        piece = piece[self._tls.write(piece) :]
                    except ssl.SSLError as error:
                        raise _broken(error) from error
                await self._flush()

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        try:
            with trio.move_on_after(_CLOSE_TIMEOUT_S):
                await self._say_goodbye()
        finally:
            await trio.aclose_forcefully(self._stream)

    async def _say_goodbye(self) -> None:
        with contextlib.suppress(ssl.SSLError):  # their goodbye is not waited for
            self._tls.unwrap()
        await self._tell_alert()

    async def _tell_alert(self) -> None:
        """Send what TLS has to say at the end, to whoever still listens."""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._flush()

    async def _flush(self) -> None:
        async with self._flushing:
            if self._outgoing.pending:
                await self._stream.send_all(self._outgoing.read())

    async def _receive_records(self) -> None:
        count = await self._stream.receive_into(self._raw)
        if count:
            self._incoming.write(self._raw[:count])
        else:
            self._incoming.write_eof()  # `ssl` tells a goodbye from a cut


def _broken(error: ssl.SSLError) -> trio.BrokenResourceError:
    """What OpenSSL said, in its own words: they name the clock, the authority or the version."""
    detail = getattr(error, "verify_message", "") or error.reason or error.strerror or type(error).__name__
    return trio.BrokenResourceError(f"TLS: {detail}")
