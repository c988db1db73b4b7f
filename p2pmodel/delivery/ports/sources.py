"""Sources: a peer or an upstream, where chunks come from."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from p2pmodel.content import Blob, Grade


@dataclass(frozen=True, slots=True)
class Order:
    """One run of chunks [first, first + count) of a blob, asked of one source."""

    blob: Blob
    first: int
    count: int
    private: bool = False  # only over connections that nobody can read


class Sink(Protocol):
    """Where a source puts what it receives. One chunk at a time per order, in the order's sequence."""

    def buffer(self) -> AbstractAsyncContextManager[memoryview]:
        """A free buffer of CHUNK_BYTES; waits while all are in use, so a source takes one only when bytes are coming."""

    async def allow(self, count: int) -> int:
        """Wait until more may be read, and how many of the `count` bytes of the chunk that are still to come: at least one of
        them. Those are all read before asking again; what has not been asked for stays in the socket."""

    def progress(self, received: int) -> None:
        """So many more bytes came in: keeps the order's lease alive and feeds the rates."""

    def answered_by(self, upstream: str) -> None:
        """Which upstream answers, where a hub's source has several."""

    async def arrived(
        self,
        index: int,
        data: memoryview,
        digest: bytes,
        *,
        claimed: bytes | None,
        grade: Grade,
        word: bytes = b"",
        plain: bool = False,
    ) -> None:
        """A whole chunk is in `data`. `digest` is what the source's code computed over it while it was hot, `claimed` what
        the sender said it would be (None from a hub), `word` the attestation that came with it. `plain`: on a connection
        that others can write to, so that nobody answers for what is wrong. Raises WrongBytesError; returns when the buffer
        may be used again."""


class Source(Protocol):
    async def fetch(self, order: Order, sink: Sink) -> None:
        """Deliver every chunk of the order, or raise SourceError (for a hub also UnavailableError) after as many as came."""
