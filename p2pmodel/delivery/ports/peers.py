"""Peers: whom we are linked to, what is done with what they say, and bytes of open files on their way out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol, Self

from p2pmodel.content import Blob, BlobId, NodeId
from p2pmodel.delivery.ports.sources import Source
from p2pmodel.errors import StoreError
from p2pmodel.wire.messages import Message


class Neighbours(Protocol):
    """The linked peers."""

    def linked(self) -> Sequence[NodeId]: ...

    def weight(self, peer: NodeId) -> str:
        """What rendezvous hashing weighs: the address in open mode (ids are free to mint), the id in a closed cluster."""

    def hold(self, blob: BlobId) -> bool:
        """Whether one of them says that it has the whole of a blob."""

    def own_weight(self) -> str:
        """The same for this node, as its peers see it."""

    def met_at(self) -> float:
        """When those who are there will have been met: a daemon that began a moment ago knows few of its cluster."""

    def able(self, peer: NodeId, ability: str) -> bool:
        """Whether both ends of the link have this ability (protocol/evolution.md)."""

    def cluster(self, peer: NodeId) -> bytes:
        """The tag of the key under which the link to a peer stands: while it changes there are two. Empty without a link."""

    def address(self, peer: NodeId) -> str:
        """Where a peer is, for people; "" when it is gone."""

    def send(self, peer: NodeId, message: Message) -> None:
        """Queue a message; a peer that is gone is no error, one that does not drain its queue is cut off."""

    async def ask(self, peer: NodeId, question: Message) -> Sequence[Message]:
        """All pages of the answer. Raises SourceError (also for `Problem`)."""

    def source(self, peer: NodeId) -> Source: ...


class PeerEvents(Protocol):
    """What delivery does with what peers say; peering calls it. None of these may block or raise."""

    def linked(self, peer: NodeId) -> None: ...

    def unlinked(self, peer: NodeId) -> None: ...

    def quiet(self, peer: NodeId, *, quiet: bool) -> None:
        """Nothing has been heard of a linked peer for QUIET_S; or it is heard again."""

    def received(self, peer: NodeId, message: Message) -> None:
        """Interest, Have, Held, Claims, BadChunk, HubBusy."""

    async def answer(self, peer: NodeId, question: Message) -> Sequence[Message]:
        """AskInventory, AskManifest, AskVoucher, AskPieces, AskSnapshot, AskWarm, AskPrivate: the pages, or one Problem."""

    async def seed(self, peer: NodeId, blob: Blob, index: int) -> Span | None:
        """A chunk for a peer, checked; None if it is not held (or not for this peer)."""


class Span:
    """Bytes of an open file, to be sent as they lie: descriptor, offset, length. The descriptor is the span's own (a
    duplicate), so a blob may be closed or removed while its bytes are still on their way out. Raises StoreError."""

    __slots__ = ("digest", "fd", "length", "offset", "private", "word")

    def __init__(
        self, fd: int, offset: int, length: int, digest: bytes = b"", word: bytes = b"", *, private: bool = False
    ) -> None:
        try:
            self.fd = os.dup(fd)
        except OSError as error:  # no descriptor left
            raise StoreError(f"A file of the store cannot be opened once more: {error.strerror}.") from error
        self.offset = offset
        self.length = length
        self.digest = digest  # the chunk's, where the span is a whole chunk
        self.private = private  # only for connections that nobody can read
        self.word = word  # the attestation that goes with it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self.fd)
