"""A link: one authenticated control connection, alive as long as the other end's heartbeat.

Three tasks: one reads, one writes what is queued, one keeps the heartbeat; a fourth answers the peer's questions one at a
time, and waits for the socket while it does, so that a peer that asks much and reads little costs nothing.
Only the link's own tasks write to the stream: a frame that is cancelled half-way ends the connection, so a caller's
cancelled question must not be able to do that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import trio

from p2pmodel.content import NodeId
from p2pmodel.errors import PeerProtocolError, ShortAnswerError, SourceBusyError, SourceError
from p2pmodel.limits import (
    ANSWER_TIMEOUT_S,
    HEARTBEAT_S,
    HEARTBEATS_MISSED_MAX,
    QUIET_S,
    REQUESTS_IN_FLIGHT_MAX,
    SEND_QUEUE_MESSAGES_MAX,
)
from p2pmodel.network import Address
from p2pmodel.peering.connection import Connection, error_of
from p2pmodel.peering.statistics import PeeringStatistics, Traffic
from p2pmodel.wire import LocalProtocolError, Unknown, encode
from p2pmodel.wire.messages import (
    AskDenyList,
    AskInventory,
    AskManifest,
    AskPieces,
    AskPrivate,
    AskSnapshot,
    AskTicket,
    AskVoucher,
    AskWarm,
    Bye,
    DenyListPage,
    Hello,
    Inventory,
    ManifestPage,
    Message,
    PiecesPage,
    Ping,
    Pong,
    Private,
    Problem,
    SnapshotPage,
    Ticket,
    VoucherPage,
    WarmProgress,
)

Question = AskTicket | AskDenyList | AskInventory | AskManifest | AskVoucher | AskPieces | AskSnapshot | AskWarm | AskPrivate
Page = Ticket | DenyListPage | Inventory | ManifestPage | VoucherPage | PiecesPage | SnapshotPage | WarmProgress | Private

_SILENCE_MAX_S: Final = HEARTBEAT_S * HEARTBEATS_MISSED_MAX
_FAREWELL_TIMEOUT_S: Final = 1.0
_LATE_S: Final = 1.0  # an event loop that comes so late was itself asleep
_BATCH_MESSAGES_MAX: Final = 32


@dataclass(slots=True)
class Attention:
    """What a link tells its house. `heard` must not block or raise; `answer` gives the pages, or one Problem."""

    heard: Callable[[Link, Message], None]
    quiet: Callable[[Link], None]  # `Link.quiet` changed
    answer: Callable[[Link, Question], Awaitable[Sequence[Message]]]
    inventory: Callable[[], tuple[int, bytes]]
    deny_list: Callable[[], bytes]  # its number
    statistics: PeeringStatistics


@dataclass(slots=True, eq=False)
class _Asked:
    """A question on its way: its pages as they come."""

    question: Question
    pages: list[Message] = field(default_factory=list)
    error: SourceError | None = None
    complete: bool = False
    abandoned: bool = False
    news: trio.Event = field(default_factory=trio.Event)

    def page(self, message: Message) -> None:
        if not self.abandoned:
            self.pages.append(message)
        self.complete = bool(getattr(message, "last", True))
        self.news.set()

    def fail(self, error: SourceError) -> None:
        self.error = error
        self.complete = True
        self.news.set()


class Link:
    """`dialler` is the node that dialled: it decides which of two links between the same pair stays."""

    def __init__(
        self, connection: Connection, *, peer: NodeId, address: Address, hello: Hello, dialler: NodeId, attention: Attention
    ) -> None:
        self.connection = connection
        self.peer = peer
        self.address = address  # where it listens, as far as we know; port 0 if it does not
        self.boot = hello.boot
        self.dialler = dialler
        self.since = trio.current_time()
        self.rtt_s: float | None = None
        self.ended = ""  # why
        self.catching_up = False  # its inventory is being read
        self.quiet = False  # nothing was heard for QUIET_S
        self.traffic = Traffic()
        self._attention = attention
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._queue, self._queued = trio.open_memory_channel[Message | _Asked](SEND_QUEUE_MESSAGES_MAX)
        self._questions, self._to_answer = trio.open_memory_channel[Question](REQUESTS_IN_FLIGHT_MAX)
        self._asked: dict[int, _Asked] = {}
        self._writing = trio.Lock()
        self._heard_at = self.since
        self._pinged_at = self.since
        self._nonce = 0
        connection.traffic.append(self.traffic)

    # What the house asks of a link

    def send(self, message: Message) -> None:
        """Queue a message; a peer that does not drain its queue is cut off."""
        self._put(message)

    async def ask(self, question: Question) -> list[Message]:
        """All pages of the answer. Raises SourceError, also for a question that no frame can hold: users choose its words."""
        try:
            encode(msgspec.structs.replace(question, request=1))
        except LocalProtocolError as error:
            raise SourceError(f"that cannot be asked of a peer: {error}") from None
        asked = _Asked(question)
        self._put(asked)
        try:
            while not asked.complete:
                with trio.move_on_after(ANSWER_TIMEOUT_S) as patience:
                    await asked.news.wait()
                if patience.cancelled_caught:
                    raise ShortAnswerError(f"the peer did not answer within {ANSWER_TIMEOUT_S:g} s")
                if not asked.complete:
                    asked.news = trio.Event()
        finally:
            asked.abandoned = True
        if asked.error:
            raise asked.error
        return asked.pages

    def start(self, work: Callable[..., Awaitable[object]], *args: object) -> None:
        """Run something that must not outlive the link."""
        if self._nursery and not self.ended:
            self._nursery.start_soon(work, *args)

    def cut(self, reason: str) -> None:
        """End the link. The first reason counts."""
        self._ends(reason)
        self._scope.cancel()

    def _ends(self, reason: str) -> None:
        if not self.ended:
            self.ended = reason
            self._attention.statistics.links_cut[reason] += 1

    # Its life

    async def run(self) -> None:
        """Until either side ends it; then closed."""
        try:
            with self._scope:
                async with trio.open_nursery() as self._nursery:
                    for work in (self._read, self._write, self._beat, self._answer_questions):
                        self._nursery.start_soon(self._until_it_fails, work)
        finally:
            self._nursery = None
            self.cut("shutdown")
            self._fail_questions()
            await self.connection.aclose(self.ended)

    async def _until_it_fails(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except PeerProtocolError:
            self._attention.statistics.protocol_errors["link"] += 1
            self._ends("protocol")
            with trio.move_on_after(_FAREWELL_TIMEOUT_S):
                async with self._writing:  # let the frame under way end, so that the reason can follow it
                    self.cut("protocol")
            self.cut("protocol")
        except SourceError:
            self.cut("broken")

    async def _read(self) -> None:
        while (message := await self.connection.receive()) is not None:
            self._heard_at = trio.current_time()
            self._be_quiet(quiet=False)
            if isinstance(message, Bye):
                return self.cut("bye")
            self._received(message)
        return self.cut("broken")

    def _received(self, message: Message | Unknown) -> None:
        if isinstance(message, Unknown):
            self.send(Problem(request=message.request, code="unknown_message"))
        elif isinstance(message, Page):
            self._page(message.request, message)
        elif isinstance(message, Problem):
            self._problem(message)
        elif isinstance(message, Question):
            self._questions.send_nowait(message)  # the session lets no more be open than the channel holds
        elif isinstance(message, Pong):
            if message.nonce == self._nonce:
                self.rtt_s = self._heard_at - self._pinged_at
        else:
            if isinstance(message, Ping):
                self.send(Pong(nonce=message.nonce))
            self._attention.heard(self, message)

    def _page(self, request: int, message: Page) -> None:
        asked = self._asked[request]  # the session lets no other answer through
        asked.page(message)
        if asked.complete:
            del self._asked[request]

    def _problem(self, problem: Problem) -> None:
        if asked := self._asked.pop(problem.request, None):
            asked.fail(error_of(problem))

    async def _write(self) -> None:
        async for first in self._queued:
            batch = [first]
            while len(batch) < _BATCH_MESSAGES_MAX and self._queued.statistics().current_buffer_used:
                batch.append(self._queued.receive_nowait())
            async with self._writing:
                await self.connection.send(*self._numbered(batch))

    def _numbered(self, batch: Sequence[Message | _Asked]) -> list[Message]:
        """Questions get their ids in the order in which they leave."""
        messages: list[Message] = []
        next_request, free = self.connection.session.next_request, self.connection.session.questions_free
        for each in batch:
            if not isinstance(each, _Asked):
                messages.append(each)
            elif free:
                messages.append(msgspec.structs.replace(each.question, request=next_request))
                self._asked[next_request] = each
                next_request, free = next_request + 1, free - 1
            else:
                each.fail(SourceBusyError("too many questions wait for this peer's answers"))
        return messages

    async def _beat(self) -> None:
        now = next_ping = trio.current_time()
        while now - self._heard_at <= _SILENCE_MAX_S:
            if now >= next_ping:
                self._ping(now)
                next_ping = now + HEARTBEAT_S
            self._be_quiet(quiet=now >= self._heard_at + QUIET_S)
            wake_at = next_ping if self.quiet else min(next_ping, self._heard_at + QUIET_S)
            await trio.sleep_until(wake_at)
            now = trio.current_time()
            if now - wake_at > _LATE_S:
                self._heard_at = now  # what came meanwhile has not been read yet
        self.cut("silent")

    def _ping(self, now: float) -> None:
        self._nonce += 1
        self._pinged_at = now
        sequence, digest = self._attention.inventory()
        deny_list = self._attention.deny_list()
        self.send(Ping(nonce=self._nonce, sequence=sequence, digest=digest, deny_list=deny_list))

    def _be_quiet(self, *, quiet: bool) -> None:
        if quiet != self.quiet:
            self.quiet = quiet
            self._attention.quiet(self)

    async def _answer_questions(self) -> None:
        async for question in self._to_answer:
            for page in await self._attention.answer(self, question):
                async with self._writing:
                    await self.connection.send(msgspec.structs.replace(page, request=question.request))

    def _put(self, item: Message | _Asked) -> None:
        try:
            self._queue.send_nowait(item)
        except trio.WouldBlock:
            self.cut("overflow")
        if self.ended and isinstance(item, _Asked):
            item.fail(SourceError("the link to this peer has ended"))

    def _fail_questions(self) -> None:
        for asked in self._asked.values():
            asked.fail(ShortAnswerError("the link broke before the answer"))
        while self._queued.statistics().current_buffer_used:
            if isinstance(item := self._queued.receive_nowait(), _Asked):
                item.fail(ShortAnswerError("the link broke before the question was sent"))
