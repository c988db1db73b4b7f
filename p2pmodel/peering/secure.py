"""The port that turns a bare stream into one whose other end is known. `tls` has the real one; a simulation exchanges names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from p2pmodel.content import NodeId
from p2pmodel.network import ByteStream

SECURE_FIRST_BYTE: Final = b"\x16"  # a TLS handshake record; a plain connection starts with a frame's length, so with 0x00


class Secure(Protocol):
    """Both verbs raise StrangerError if the other end proves nothing in time, and leave closing the stream to the caller."""

    async def wrap_dialled(self, stream: ByteStream, under: bytes = b"") -> tuple[ByteStream, NodeId]:
        """Speak first, with SECURE_FIRST_BYTE. The other end may still refuse us: believe it once it has said something.
        `under`: the tag of the cluster's key that the other end is known to have (`ByteStream.cluster`)."""

    async def wrap_accepted(
        self, stream: ByteStream, answering: Callable[[], None] = lambda: None
    ) -> tuple[ByteStream, NodeId]:
        """`answering` is called once the other end has said enough to be answered: it does more than stand there."""
