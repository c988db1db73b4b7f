"""The questions that one side has asked and the other has not finished answering: ids, bounds, pages in order.

Both sides of a connection keep two of these, one for each side's questions; the same rules tell us what we may say and
what a peer may. Every rule broken is a ValueError with a short reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from p2pmodel.content import chunk_size
from p2pmodel.limits import DENY_LIST_BYTES_MAX, INVENTORY_ENTRIES_MAX, REQUESTS_IN_FLIGHT_MAX, SNAPSHOT_BYTES_MAX
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
    Chunk,
    DenyListPage,
    Get,
    Inventory,
    ManifestPage,
    Message,
    PiecesPage,
    Private,
    SnapshotPage,
    Ticket,
    VoucherPage,
    WarmProgress,
)
from p2pmodel.wire.packed import ENTRY_BYTES


class Questions:
    """Open questions of one side, by request id."""

    def __init__(self) -> None:
        self._open: dict[int, _Answer] = {}
        self._last = 0

    @property
    def next_id(self) -> int:
        return self._last + 1

    @property
    def free(self) -> int:
        """How many more may be asked before one is answered."""
        return REQUESTS_IN_FLIGHT_MAX - len(self._open)

    def asked(self, request: int, question: Message | None) -> None:
        """A question was put; None is one of a type that only the asker knows: all it can get is a problem."""
        if request <= self._last:
            raise ValueError(f"request {request} after {self._last}: ids rise")
        if self.free == 0:
            raise ValueError(f"more than {REQUESTS_IN_FLIGHT_MAX} questions open")
        self._last = request
        self._open[request] = _NoAnswer() if question is None else _ANSWERS[type(question)](question)

    def answered(self, request: int, answer: Message) -> None:
        """One page, or the only one, of an answer came."""
        expected = self._open.get(request)
        if expected is None:
            raise ValueError(f"an answer to request {request}, which is not open")
        if expected.complete_with(answer):
            del self._open[request]

    def failed(self, request: int) -> None:
        """A problem came instead of the (rest of the) answer."""
        if self._open.pop(request, None) is None:
            raise ValueError(f"a problem with request {request}, which is not open")


class _Answer(Protocol):
    def complete_with(self, answer: Any) -> bool:  # noqa: ANN401  # each checks the type it waits for
        """Take a part of the answer; whether it was the last. Raises ValueError if it is not the part to come."""


class _NoAnswer:
    def complete_with(self, answer: Message) -> bool:  # noqa: ARG002  # none is right
        raise ValueError("an answer to a question that was not understood")


class _TicketAnswer:
    def complete_with(self, answer: Message) -> bool:
        _expect(answer, Ticket)
        return True


class _InventoryAnswer:
    def __init__(self, question: AskInventory) -> None:
        self._asked = question
        self._first: tuple[bytes, int, bool] | None = None
        self._bytes = 0

    def complete_with(self, answer: Any) -> bool:  # noqa: ANN401
        _expect(answer, Inventory)
        named = (answer.boot, answer.sequence, answer.whole)
        if not answer.whole and answer.boot != self._asked.boot:
            raise ValueError("changes of another boot than was asked")
        if self._first not in (None, named):
            raise ValueError("pages of two inventories in one answer")
        self._first = named
        self._bytes += len(answer.entries)
        if self._bytes > INVENTORY_ENTRIES_MAX * ENTRY_BYTES:
            raise ValueError(f"an inventory of more than {INVENTORY_ENTRIES_MAX} entries")
        return bool(answer.last)


class _ManifestAnswer:
    """A small file has two names, so the blob may be called by the one under which it was sealed; all pages agree."""

    def __init__(self) -> None:
        self._head: tuple[object, ...] | None = None
        self._next = 0

    def complete_with(self, answer: Any) -> bool:  # noqa: ANN401
        _expect(answer, ManifestPage)
        head = (answer.blob, answer.size, answer.root, answer.signer, answer.signature)
        if self._head not in (None, head):
            raise ValueError("pages of two manifests in one answer")
        if answer.first != self._next:
            raise ValueError(f"digests from chunk {answer.first} instead of {self._next}")
        self._head = head
        self._next += len(answer.digests) // 32
        return bool(answer.last)


class _VoucherAnswer:
    def complete_with(self, answer: Message) -> bool:
        _expect(answer, VoucherPage)
        return True


class _PiecesAnswer:
    def __init__(self, question: AskPieces) -> None:
        self._first = question.first

    def complete_with(self, answer: Any) -> bool:  # noqa: ANN401
        _expect(answer, PiecesPage)
        if answer.first != self._first:
            raise ValueError(f"pieces from {answer.first} instead of {self._first}")
        return True


class _SnapshotAnswer:
    def __init__(self) -> None:
        self._bytes = 0

    def complete_with(self, answer: Any) -> bool:  # noqa: ANN401
        _expect(answer, SnapshotPage)
        self._bytes += len(answer.data)
        if self._bytes > SNAPSHOT_BYTES_MAX:
            raise ValueError(f"a listing of more than {SNAPSHOT_BYTES_MAX} bytes")
        return bool(answer.last)


class _DenyListAnswer:
    def __init__(self) -> None:
        self._bytes = 0

    def complete_with(self, answer: Any) -> bool:  # noqa: ANN401
        _expect(answer, DenyListPage)
        self._bytes += len(answer.data)
        if self._bytes > DENY_LIST_BYTES_MAX:
            raise ValueError(f"a deny list of more than {DENY_LIST_BYTES_MAX} bytes")
        return bool(answer.last)


class _WarmAnswer:
    def complete_with(self, answer: Message) -> bool:
        _expect(answer, WarmProgress)
        return True


class _PrivateAnswer:
    def complete_with(self, answer: Message) -> bool:
        _expect(answer, Private)
        return True


class _ChunksAnswer:
    def __init__(self, question: Get) -> None:
        self._asked = question
        self._next = question.first

    def complete_with(self, answer: Any) -> bool:  # noqa: ANN401
        _expect(answer, Chunk)
        if answer.index != self._next:
            raise ValueError(f"chunk {answer.index} instead of {self._next}")
        if answer.size != chunk_size(self._asked.size, answer.index):
            raise ValueError(f"{answer.size} bytes for chunk {answer.index} of a blob of {self._asked.size} bytes")
        self._next += 1
        return self._next == self._asked.first + self._asked.count


def _expect(answer: Message, kind: type[Message]) -> None:
    if not isinstance(answer, kind):
        raise ValueError(f"{type(answer).__name__} where {kind.__name__} was asked for")  # noqa: TRY004  # a peer's value


_ANSWERS: Final[Mapping[type[Message], Callable[[Any], _Answer]]] = {
    AskTicket: lambda _: _TicketAnswer(),
    AskDenyList: lambda _: _DenyListAnswer(),
    AskInventory: _InventoryAnswer,
    AskManifest: lambda _: _ManifestAnswer(),
    AskVoucher: lambda _: _VoucherAnswer(),
    AskPieces: _PiecesAnswer,
    AskSnapshot: lambda _: _SnapshotAnswer(),
    AskWarm: lambda _: _WarmAnswer(),
    AskPrivate: lambda _: _PrivateAnswer(),
    Get: _ChunksAnswer,
}
Question = (
    AskTicket | AskDenyList | AskInventory | AskManifest | AskVoucher | AskPieces | AskSnapshot | AskWarm | AskPrivate | Get
)
Page = (
    Ticket | DenyListPage | Inventory | ManifestPage | VoucherPage | PiecesPage | SnapshotPage | WarmProgress | Private | Chunk
)
