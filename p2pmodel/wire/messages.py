"""Everything one daemon says to another, as typed values. protocol/messages.md is the same list for other languages.

Lists that can grow travel packed in one ``bin`` field; the helpers at the end pack and unpack them. Two kinds of
connection speak this vocabulary: a *link* (TLS, control) and a *data* connection (chunks), opened with a ticket.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import msgspec

from p2pmodel.content import BlobId

if TYPE_CHECKING:
    from collections.abc import Iterable

PROTOCOL_VERSION: Final = 1


class Message(msgspec.Struct, frozen=True, tag_field="t", kw_only=True):
    """A control frame. Unknown fields are ignored; an unknown tag is answered with `Problem`."""


# Opening


class Hello(Message, tag="hello", frozen=True, kw_only=True):
    """First message of both sides over TLS; the listener speaks first (TLS 1.3 judges a client late)."""

    version: int  # highest version spoken
    version_min: int  # lowest version spoken
    abilities: list[str] = []
    boot: bytes  # 8 random bytes per start of the daemon: names its inventory sequence
    port: int  # where this node listens for peers


class Attach(Message, tag="attach", frozen=True, kw_only=True):
    """First message on a data connection: spends a ticket got over the link."""

    ticket: bytes  # 16 bytes, good once and for seconds


class Attached(Message, tag="attached", frozen=True, kw_only=True):
    """The ticket was good."""


class AskTicket(Message, tag="ask_ticket", frozen=True, kw_only=True):
    request: int


class Ticket(Message, tag="ticket", frozen=True, kw_only=True):
    request: int
    ticket: bytes
    plain: bool  # whether the data connection is to be plain TCP; else TLS


# Presence


class Ping(Message, tag="ping", frozen=True, kw_only=True):
    """Heartbeat; says where the sender's inventory stands."""

    nonce: int
    sequence: int
    digest: bytes  # 16 bytes, of the inventory at this sequence


class Pong(Message, tag="pong", frozen=True, kw_only=True):
    nonce: int


class Peers(Message, tag="peers", frozen=True, kw_only=True):
    """Peer exchange: nodes that the sender is linked to."""

    nodes: list[PeerAddress]


class PeerAddress(msgspec.Struct, frozen=True, kw_only=True):
    node: str
    host: str
    port: int


class AskInventory(Message, tag="ask_inventory", frozen=True, kw_only=True):
    """Asks for what changed since `since` of the boot named; an unknown boot gets everything."""

    request: int
    boot: bytes
    since: int


class Inventory(Message, tag="inventory", frozen=True, kw_only=True):
    """One page of an answer: `entries` packs (blob, size, state); state 0 removed, 1 partial, 2 sealed."""

    request: int
    boot: bytes
    sequence: int
    whole: bool  # the entries are everything, not a delta
    entries: bytes
    last: bool


# The swarm of a blob


class Interest(Message, tag="interest", frozen=True, kw_only=True):
    """The sender wants (or no longer wants) a blob; answered with `Have`, then `Held` and `Claims` as they change."""

    blob: bytes
    size: int
    on: bool


class Have(Message, tag="have", frozen=True, kw_only=True):
    """The whole chunk map of a blob at the sender. An empty map from a node that holds nothing is an answer too."""

    blob: bytes
    size: int
    sealed: bool
    wanted: bool  # the sender is fetching it itself
    chunks: bytes  # chunk map, least significant bit first


class Held(Message, tag="held", frozen=True, kw_only=True):
    """Chunks that came since: packed u32 indices."""

    blob: bytes
    chunks: bytes


class Claims(Message, tag="claims", frozen=True, kw_only=True):
    """All runs that the sender is reading from a hub now: packed (u32 first, u32 count). Replaces its earlier claims."""

    blob: bytes
    runs: bytes


class BadChunk(Message, tag="bad_chunk", frozen=True, kw_only=True):
    """Tells the sender of a chunk that its bytes were wrong, so that it re-hashes its disk."""

    blob: bytes
    chunk: int


class HubBusy(Message, tag="hub_busy", frozen=True, kw_only=True):
    """A hub asked for patience: the budget is the cluster's."""

    upstream: str  # host of the hub
    retry_after: float  # seconds from now


# Manifests and snapshots


class AskManifest(Message, tag="ask_manifest", frozen=True, kw_only=True):
    """Asks for the digests of a sealed blob."""

    request: int
    blob: bytes


class ManifestPage(Message, tag="manifest", frozen=True, kw_only=True):
    """Digests from chunk `first` on; the seal's fields stand on every page."""

    request: int
    blob: bytes
    size: int
    first: int
    digests: bytes
    root: bytes
    signer: bytes
    signature: bytes
    last: bool


class AskSnapshot(Message, tag="ask_snapshot", frozen=True, kw_only=True):
    """Closed clusters only: the listing of a repo at a revision, as the peer's hub told it."""

    request: int
    hub: str
    kind: str
    name: str
    revision: str


class SnapshotPage(Message, tag="snapshot", frozen=True, kw_only=True):
    """A page of the signed JSON document of protocol/snapshots.md."""

    request: int
    data: bytes
    last: bool


# Chunks (data connections)


class Get(Message, tag="get", frozen=True, kw_only=True):
    """Asks for chunks [first, first + count); answered in order by `Chunk` frames, or cut short by one `Problem`."""

    request: int
    blob: bytes
    size: int
    first: int
    count: int


class Chunk(Message, tag="chunk", frozen=True, kw_only=True):
    """Announces a chunk: exactly `size` raw bytes follow this frame."""

    request: int
    index: int
    size: int
    digest: bytes  # BLAKE3-256 of those bytes, as the sender knows it


# Ends


class Problem(Message, tag="problem", frozen=True, kw_only=True):
    """A request cannot be answered (`request` > 0), or a message was not understood (0)."""

    request: int = 0
    code: str  # one of PROBLEM_CODES; others are read as "failed"
    text: str = ""


class Bye(Message, tag="bye", frozen=True, kw_only=True):
    """The sender is closing this connection on purpose."""

    reason: str = ""


PROBLEM_CODES: Final = ("unknown_message", "not_held", "busy", "bad_request", "bad_ticket", "version", "failed")

MESSAGES: Final[tuple[type[Message], ...]] = (
    Hello, Attach, Attached, AskTicket, Ticket, Ping, Pong, Peers, AskInventory, Inventory, Interest, Have, Held, Claims,
    BadChunk, HubBusy, AskManifest, ManifestPage, AskSnapshot, SnapshotPage, Get, Chunk, Problem, Bye,
)  # fmt: skip

AnyMessage = (
    Hello | Attach | Attached | AskTicket | Ticket | Ping | Pong | Peers | AskInventory | Inventory | Interest | Have | Held
    | Claims | BadChunk | HubBusy | AskManifest | ManifestPage | AskSnapshot | SnapshotPage | Get | Chunk | Problem | Bye
)  # fmt: skip


# Packed lists


class InventoryEntry(msgspec.Struct, frozen=True):
    """What a node says of one blob in its inventory."""

    blob: BlobId
    size: int
    state: int  # 0 removed, 1 partial, 2 sealed


_ENTRY: Final = struct.Struct(">33sQB")
_RUN: Final = struct.Struct(">II")
_INDEX: Final = struct.Struct(">I")
ENTRIES_PER_PAGE_MAX: Final = 1400  # × 42 bytes: a page fits a frame


def pack_entries(entries: Iterable[InventoryEntry]) -> bytes:
    return b"".join(_ENTRY.pack(entry.blob.to_bytes(), entry.size, entry.state) for entry in entries)


def unpack_entries(data: bytes) -> list[InventoryEntry]:
    """Raises ValueError for anything but whole, known entries."""
    return [InventoryEntry(BlobId.from_bytes(raw), size, state) for raw, size, state in _records(_ENTRY, data)]


def pack_runs(runs: Iterable[tuple[int, int]]) -> bytes:
    return b"".join(_RUN.pack(first, count) for first, count in runs)


def unpack_runs(data: bytes) -> list[tuple[int, int]]:
    """Raises ValueError for a list cut off in the middle."""
    return _records(_RUN, data)


def pack_indices(chunks: Iterable[int]) -> bytes:
    return b"".join(_INDEX.pack(index) for index in chunks)


def unpack_indices(data: bytes) -> list[int]:
    """Raises ValueError for a list cut off in the middle."""
    return [index for (index,) in _records(_INDEX, data)]


def _records(record: struct.Struct, data: bytes) -> list[tuple[Any, ...]]:
    try:
        return list(record.iter_unpack(data))
    except struct.error:
        raise ValueError(f"a packed list of {len(data)} bytes is no multiple of {record.size}") from None
