"""One connection, without the connection: bytes in, events out; messages in, bytes out. The driver owns the socket.

    frame = session.send(message)          # then the driver sends it; after a Chunk also exactly `body_to_send` raw bytes
    session.receive_bytes(data)            # b"" at the end of the stream
    while (event := session.next_event()) is not NEED_DATA: ...

After a `Chunk` event the next `body_remaining` bytes are the chunk's own. Those that are buffered already are moved by
`take_body`; the driver receives the rest straight into its own buffer and says so with `body_received`.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from p2pmodel.errors import OtherVersionError, PeerProtocolError
from p2pmodel.limits import FRAME_BYTES_MAX
from p2pmodel.wire.codec import LENGTH, LocalProtocolError, Unknown, decode, encode, frame_length, tag_of
from p2pmodel.wire.messages import PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, Chunk, Hello, Message, Problem
from p2pmodel.wire.questions import Page, Question, Questions
from p2pmodel.wire.states import START, TABLE, Role, Secrecy, State, Way


class Signal(Enum):
    NEED_DATA = "need data"
    CLOSED = "closed"


NEED_DATA: Final = Signal.NEED_DATA
CLOSED: Final = Signal.CLOSED

_WAITING_BYTES_MAX: Final = LENGTH.size + FRAME_BYTES_MAX


class Session:
    """A connection's state. A link is agreed when `state` is LINK, a data connection when it is FETCHING or SEEDING."""

    def __init__(
        self,
        role: Role,
        secrecy: Secrecy = Secrecy.TLS,
        *,
        versions: tuple[int, int] = (PROTOCOL_VERSION_MIN, PROTOCOL_VERSION),
    ) -> None:
        self.secrecy = secrecy
        self.state = START[role, secrecy]
        self.version = 0  # agreed; 0 before
        self.abilities: frozenset[str] = frozenset()  # that both sides have
        self.body_remaining = 0  # bytes of a chunk still to come
        self.body_to_send = 0  # bytes of a chunk that we still owe
        self.farewell = b""  # after a PeerProtocolError: what may still be sent before closing
        self._versions = versions
        self._own_abilities: frozenset[str] | None = None
        self._peer_abilities: frozenset[str] | None = None
        self._asked = Questions()
        self._asked_by_peer = Questions()
        self._buffer = bytearray()
        self._ended = False

    @property
    def closed(self) -> bool:
        """Nothing more may be sent and no event but CLOSED will come."""
        return self.state is State.CLOSED

    @property
    def next_request(self) -> int:
        """The id to give to the next question."""
        return self._asked.next_id

    @property
    def questions_free(self) -> int:
        """How many more questions may be asked before one is answered."""
        return self._asked.free

    # Sending

    def send(self, message: Message) -> bytes:
        """The frame to send now. Raises LocalProtocolError where the protocol forbids it; then nothing has changed."""
        kind = type(message)
        after = TABLE[self.state].get((Way.SENT, kind))
        if after is None:
            raise LocalProtocolError(f"{tag_of(kind)} may not be sent in state {self.state.value}")
        if self.body_to_send:
            raise LocalProtocolError(f"{tag_of(kind)} while {self.body_to_send} bytes of a chunk are owed")
        frame = encode(message)
        try:
            if isinstance(message, Hello):
                self._greet(message)
            _note(message, questions=self._asked, answers=self._asked_by_peer)
        except ValueError as error:
            raise LocalProtocolError(f"{tag_of(kind)}: {error}") from error
        if isinstance(message, Chunk):
            self.body_to_send = message.size
        self.state = after
        return frame

    def body_sent(self, count: int) -> None:
        """The driver has sent so many bytes of the chunk that it announced."""
        if not 0 <= count <= self.body_to_send:
            raise LocalProtocolError(f"{count} bytes sent of {self.body_to_send} owed")
        self.body_to_send -= count

    def _greet(self, hello: Hello) -> None:
        if (hello.version_min, hello.version) != self._versions:
            raise ValueError(f"this session speaks versions {self._versions}")
        self._own_abilities = frozenset(hello.abilities)
        self._agree_on_abilities()

    # Receiving

    def receive_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """Bytes as they came, in any pieces; b"" at the end of the stream. Take all events before giving more."""
        if len(self._buffer) > _WAITING_BYTES_MAX:
            raise LocalProtocolError(f"{len(self._buffer)} received bytes wait to be taken")
        if not data:
            self._ended = True
        elif not self.closed:
            self._buffer += data

    def next_event(self) -> Message | Unknown | Signal:
        """The next message, or what stands in its way. Raises PeerProtocolError, after which the session is closed."""
        if self.body_remaining:
            raise LocalProtocolError(f"{self.body_remaining} bytes of a chunk come before the next event")
        if self.closed:
            return CLOSED
        try:
            event = self._take_frame()
            if event is None:
                return self._out_of_data()
            self._received(event)
        except (ValueError, PeerProtocolError) as error:
            self._break(error)
            raise (error if isinstance(error, PeerProtocolError) else PeerProtocolError(str(error))) from None
        return event

    def take_body(self, buffer: memoryview) -> int:
        """Move bytes of the chunk that are buffered already into `buffer`; how many."""
        count = min(len(buffer), len(self._buffer), self.body_remaining)
        buffer[:count] = self._buffer[:count]
        del self._buffer[:count]
        self.body_remaining -= count
        return count

    def body_received(self, count: int) -> None:
        """The driver has received so many bytes of the chunk into its own buffer."""
        if not 0 <= count <= self.body_remaining:
            raise LocalProtocolError(f"{count} bytes received of {self.body_remaining} to come")
        if self._buffer:
            raise LocalProtocolError("bytes of the chunk wait in the session; take them first")
        self.body_remaining -= count

    def _take_frame(self) -> Message | Unknown | None:
        if len(self._buffer) < LENGTH.size:
            return None
        stop = LENGTH.size + frame_length(self._buffer[: LENGTH.size])
        if len(self._buffer) < stop:
            return None
        body = bytes(self._buffer[LENGTH.size : stop])
        del self._buffer[:stop]
        return decode(body)

    def _out_of_data(self) -> Signal:
        if not self._ended:
            return NEED_DATA
        self.state = State.CLOSED  # a connection that breaks off in the middle is nobody's offence
        return CLOSED

    def _received(self, event: Message | Unknown) -> None:
        after = TABLE[self.state].get((Way.RECEIVED, type(event)))
        if after is None:
            raise ValueError(f"{_tag(event)} may not come in state {self.state.value}")
        if isinstance(event, Hello):
            self._meet(event)
        if isinstance(event, Unknown):
            if event.request:
                self._asked_by_peer.asked(event.request, None)
        else:
            _note(event, questions=self._asked_by_peer, answers=self._asked)
        if isinstance(event, Chunk):
            self.body_remaining = event.size
        self.state = after

    def _meet(self, hello: Hello) -> None:
        lowest, highest = self._versions
        version = min(highest, hello.version)
        if version < max(lowest, hello.version_min):
            raise OtherVersionError(f"we speak {lowest} to {highest}, the peer {hello.version_min} to {hello.version}")
        self.version = version
        self._peer_abilities = frozenset(hello.abilities)
        self._agree_on_abilities()

    def _agree_on_abilities(self) -> None:
        if self._own_abilities is not None and self._peer_abilities is not None:
            self.abilities = self._own_abilities & self._peer_abilities

    def _break(self, offence: Exception) -> None:
        """Close on the peer's fault; the farewell tells it why, unless the middle of a chunk is no place for a frame."""
        self.state = State.CLOSED
        self._buffer.clear()
        if not self.body_to_send:
            code = "version" if isinstance(offence, OtherVersionError) else "bad_request"
            self.farewell = encode(Problem(code=code, text=_printable(str(offence))))


def _note(message: Message, *, questions: Questions, answers: Questions) -> None:
    """Keep the books of what one side says: `questions` are its own, `answers` are to the other's. Raises ValueError."""
    if isinstance(message, Question):
        questions.asked(message.request, message)
    elif isinstance(message, Page):
        answers.answered(message.request, message)
    elif isinstance(message, Problem) and message.request:
        answers.failed(message.request)


def _tag(event: Message | Unknown) -> str:
    return event.tag if isinstance(event, Unknown) else tag_of(type(event))


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)[:500]
