"""A wire session on a stream: messages in, messages out, chunk bodies past both. All that goes wrong is a SourceError."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final, TypeVar

import trio

from p2pmodel.delivery.ports import Span
from p2pmodel.errors import OtherVersionError, PeerProtocolError, ShortAnswerError, SourceBusyError, SourceError
from p2pmodel.limits import CHUNK_TIME_MAX_S
from p2pmodel.network import ByteStream
from p2pmodel.peering.statistics import Traffic
from p2pmodel.wire import CLOSED, NEED_DATA, Session, Unknown
from p2pmodel.wire.messages import Bye, Chunk, Message, Problem

M = TypeVar("M", bound=Message)
Allow = Callable[[int], Awaitable[int]]  # waits until some of so many bytes may move; how many

_SCRATCH_BYTES: Final = 16 * 1024  # what may be received together with a frame, and so copied once more: 0.4 % of a chunk
_FAREWELL_TIMEOUT_S: Final = 1.0
_ERRORS: Final[Mapping[str, type[SourceError]]] = {"busy": SourceBusyError}


def error_of(problem: Problem) -> SourceError:
    """What a peer's problem means to the one who asked."""
    return _ERRORS.get(problem.code, SourceError)(f"the peer answered {problem.code}: {problem.text}".rstrip(": "))


@contextmanager
def patience(seconds: float) -> Iterator[trio.CancelScope]:
    """A deadline for the other end, and one name for all the ways in which a connection ends."""
    try:
        with trio.fail_after(seconds) as scope:
            yield scope
    except trio.TooSlowError:
        raise ShortAnswerError(f"the peer made no progress for {seconds:g} s") from None
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise ShortAnswerError(f"the connection broke: {error}") from error


class Connection:
    """One task may send while another receives. `patience_s` is how long the peer may be without progress either way."""

    def __init__(self, stream: ByteStream, session: Session, *traffic: Traffic, patience_s: float = math.inf) -> None:
        self.stream = stream
        self.session = session
        self.traffic = list(traffic)  # who keeps count: this room, and the peer once it is known
        self.patience_s = patience_s
        self.received = 0  # bytes
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._halfway = False  # a frame or chunk has begun to leave: nothing else may follow before its end

    # Receiving

    async def receive(self) -> Message | Unknown | None:
        """The next message; None once the other end has closed."""
        while (event := self.session.next_event()) is NEED_DATA:
            self.session.receive_bytes(self._scratch[: await self._receive_into(self._scratch)])
        return None if event is CLOSED else event

    async def listen(self) -> Message | Unknown:
        """The next message; a Problem, a Bye or the end of the stream is raised."""
        message = await self.receive()
        if isinstance(message, Problem):
            raise OtherVersionError("the peer speaks none of our versions") if message.code == "version" else error_of(message)
        if message is None or isinstance(message, Bye):
            raise ShortAnswerError("the peer closed the connection")
        return message

    async def expect(self, kind: type[M]) -> M:
        """The same, where only one kind of message may come."""
        message = await self.listen()
        if not isinstance(message, kind):
            raise PeerProtocolError(f"{type(message).__name__} where {kind.__name__} was due")
        return message

    async def receive_body(
        self, buffer: memoryview, allow: Allow, progress: Callable[[int], None], seen: Callable[[memoryview], object]
    ) -> None:
        """Fill `buffer` with the chunk that was announced; `seen` gets each piece (see `ByteStream.receive_body`)."""
        if done := self.session.take_body(buffer):
            seen(buffer[:done])
            progress(done)
        allowed = 0
        last = trio.current_time() + CHUNK_TIME_MAX_S
        with patience(self.patience_s) as scope:  # one a chunk, moved on by progress: a scope costs 9 µs
            while allowed < len(buffer):
                scope.deadline = math.inf  # what our own limit costs is not the peer's time
                last -= trio.current_time()
                allowed += await allow(len(buffer) - allowed)
                last += trio.current_time()
                while done < allowed:
                    scope.deadline = min(trio.current_time() + self.patience_s, last)
                    count = await self.stream.receive_body(buffer[done:allowed], seen)
                    if not count:
                        raise ShortAnswerError("the connection ended in the middle of a chunk")
                    self.session.body_received(count)
                    progress(count)
                    done += count
                    self._count_received(count)

    async def _receive_into(self, buffer: memoryview) -> int:
        with patience(self.patience_s):
            count = await self.stream.receive_into(buffer)
        self._count_received(count)
        return count

    def _count_received(self, count: int) -> None:
        self.received += count
        for each in self.traffic:
            each.received += count

    # Sending

    async def send(self, *messages: Message) -> None:
        """Send frames together. If this is cancelled half-way, the connection can only be closed."""
        if self.session.closed:
            raise ShortAnswerError("the connection is closed")
        frames = b"".join([self.session.send(message) for message in messages])
        self._halfway = True
        with patience(self.patience_s):
            await self.stream.send_all(frames)
        self._sent(len(frames))

    async def send_chunk(self, announcement: Chunk, span: Span, allow: Allow) -> None:
        """A chunk, from the file it lies in, as fast as `allow` lets it. Raises OSError if the file fails."""
        frame = self.session.send(announcement)
        self._halfway = True
        sent = 0
        with patience(self.patience_s) as scope:
            await self.stream.send_all(frame)
            while sent < span.length:
                scope.deadline = math.inf  # as above
                count = await allow(span.length - sent)
                scope.deadline = trio.current_time() + self.patience_s
                await self.stream.send_file(span.fd, span.offset + sent, count)
                sent += count
        self.session.body_sent(span.length)
        self._sent(len(frame) + span.length)

    def _sent(self, count: int) -> None:
        self._halfway = False
        for each in self.traffic:
            each.sent += count

    # The end

    async def aclose(self, reason: str = "") -> None:
        """Say why, if the other end still listens, and close."""
        try:
            with trio.move_on_after(_FAREWELL_TIMEOUT_S, shield=True):
                await self._say_farewell(reason)
        finally:
            await trio.aclose_forcefully(self.stream)

    async def _say_farewell(self, reason: str) -> None:
        if self._halfway:
            return
        farewell = self.session.farewell if self.session.closed else self.session.send(Bye(reason=reason))
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # nobody listens any more
            if farewell:
                await self.stream.send_all(farewell)
            await self.stream.aclose()
