"""The port to the network: dial an address, listen on one, get byte streams. The simulation has another one behind it.

A `ByteStream` is a trio Stream with two more verbs, because they are what a chunk needs: receive into a buffer that is
already there, and send a span of a file without reading it.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from p2pmodel.content import NodeId

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, order=True)
class Address:
    host: str  # an IP address, or a name that the user configured
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """Somebody says that a daemon listens there: a hint, which only dialling it can prove."""

    address: Address
    node: NodeId | None  # who is said to be there; None where only the address is known
    origin: str  # "mdns", "static", "remembered" or "exchange"


class ByteStream(trio.abc.Stream):
    """A reliable byte stream; broken or closed ones raise trio.BrokenResourceError or trio.ClosedResourceError."""

    @property
    @abstractmethod
    def remote(self) -> Address:
        """Who is at the other end."""

    @property
    @abstractmethod
    def local(self) -> Address:
        """Who we are on this stream: what the other end sees as its remote, NAT aside."""

    @property
    def cluster(self) -> bytes:
        """The tag of the cluster's key that both ends proved to have; empty on a bare stream."""
        return b""

    @abstractmethod
    async def peek(self) -> bytes:
        """The first byte to come, left in place; b"" at the end of the stream."""

    async def receive_into(self, buffer: memoryview) -> int:
        """Receive at least one byte into `buffer`; 0 at the end of the stream."""
        data = await self.receive_some(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    async def receive_body(self, buffer: memoryview, seen: Callable[[memoryview], object]) -> int:
        """The same for what the other end has begun to send all of. `seen` gets each piece in order, while it is in the
        processor's cache, and perhaps in another thread.
        """
        count = await self.receive_into(buffer)
        seen(buffer[:count])
        return count

    async def send_file(self, fd: int, offset: int, count: int) -> None:
        """Send `count` bytes of an open file from `offset`. Raises OSError if the file is shorter."""
        while count:
            piece = os.pread(fd, min(count, _PIECE_BYTES), offset)
            if not piece:
                raise OSError(f"file descriptor {fd} ends before offset {offset}")
            await self.send_all(piece)
            offset += len(piece)
            count -= len(piece)


class Listener(Protocol):
    @property
    def port(self) -> int:
        """The bound port (0 asks for a free one)."""

    async def serve(self, handle: Callable[[ByteStream], Awaitable[None]], nursery: trio.Nursery) -> None:
        """Accept for ever; each stream is handled by a task of `nursery`. `handle` must not raise."""

    async def aclose(self) -> None: ...


class Network(Protocol):
    async def dial(self, address: Address) -> ByteStream:
        """Raises OSError when nobody answers; the caller sets the deadline."""

    async def listen(self, host: str, port: int) -> Listener:
        """Raises OSError when the port cannot be had."""
