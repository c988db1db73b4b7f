"""Everything one daemon says to another, as typed values. protocol/messages.md is the same list for other languages.

A field's type carries its bounds; what one field alone cannot say (a map that fits its blob, pages that fit their
manifest) is in ``checks``. Lists that can grow travel packed in one ``bin`` field: ``packed``. Two kinds of connection
speak this vocabulary: a *link* (TLS, control) and a *data* connection (chunks), opened with a ticket.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from p2pmodel.content.attestation import ATTESTATION_BYTES_MAX
from p2pmodel.content.pieces import PIECE_ENTRY_BYTES
from p2pmodel.content.voucher import VOUCHER_BYTES
from p2pmodel.limits import (
    ABILITIES_MAX,
    ATTEST_BYTES_MAX,
    AUDIT_ROUNDS_MAX,
    BLOB_BYTES_MAX,
    CHUNK_BYTES,
    CHUNKS_PER_GET_MAX,
    DENY_LIST_PAGE_BYTES_MAX,
    DIGESTS_PER_PAGE_MAX,
    ENTRIES_PER_PAGE_MAX,
    GLOBS_PER_MESSAGE_MAX,
    HUB_REST_MAX_S,
    INDICES_PER_MESSAGE_MAX,
    PEERS_PER_MESSAGE_MAX,
    PIECES_MAX,
    PIECES_PER_PAGE_MAX,
    RATE_MAX,
    RUNS_PER_MESSAGE_MAX,
    SNAPSHOT_PAGE_BYTES_MAX,
)

PROTOCOL_VERSION: Final = 1
PROTOCOL_VERSION_MIN: Final = 1
CHUNKS_MAX: Final = BLOB_BYTES_MAX // CHUNK_BYTES

# What a field may hold. The patterns are those of JSON Schema, so that protocol/schema/ can carry them as they are.
Version = Annotated[int, Meta(ge=1, le=0xFFFF)]
Port = Annotated[int, Meta(ge=1, le=0xFFFF)]
RequestId = Annotated[int, Meta(ge=1, le=0xFFFFFFFF)]
Counter = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
BlobName = Annotated[bytes, Meta(min_length=33, max_length=33)]
BlobSize = Annotated[int, Meta(ge=0, le=BLOB_BYTES_MAX)]
ChunkIndex = Annotated[int, Meta(ge=0, lt=CHUNKS_MAX)]
PieceIndex = Annotated[int, Meta(ge=0, lt=PIECES_MAX)]
ChunkMapBytes = Annotated[bytes, Meta(max_length=CHUNKS_MAX // 8)]
Bytes8 = Annotated[bytes, Meta(min_length=8, max_length=8)]
Bytes16 = Annotated[bytes, Meta(min_length=16, max_length=16)]
Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Bytes64 = Annotated[bytes, Meta(min_length=64, max_length=64)]
Word = Annotated[str, Meta(min_length=1, max_length=32, pattern="^[a-z0-9_-]+$")]
Host = Annotated[str, Meta(min_length=1, max_length=261, pattern=r"^[A-Za-z0-9._:\[\]-]+$")]  # 255 and a port
Node = Annotated[str, Meta(min_length=40, max_length=40, pattern="^[0-9a-f]+$")]
Sentence = Annotated[str, Meta(max_length=500)]
RepoName = Annotated[str, Meta(min_length=1, max_length=257)]
Revision = Annotated[str, Meta(min_length=1, max_length=255)]
Glob = Annotated[str, Meta(min_length=1, max_length=255)]
Globs = Annotated[list[Glob], Meta(max_length=GLOBS_PER_MESSAGE_MAX)]


class Message(msgspec.Struct, frozen=True, tag_field="t", kw_only=True):
    """A control frame. Unknown fields are ignored; an unknown tag is answered with `Problem`."""


# Opening


class Hello(Message, tag="hello", frozen=True, kw_only=True):
    """First message of both sides over TLS; the listener speaks first (TLS 1.3 judges a client late)."""

    version: Version  # highest version spoken
    version_min: Version  # lowest version spoken
    abilities: Annotated[list[Word], Meta(max_length=ABILITIES_MAX)] = []
    boot: Bytes8  # 8 random bytes per start of the daemon: names its inventory sequence
    port: Annotated[int, Meta(ge=0, le=0xFFFF)]  # where this node listens for peers; 0: nowhere


class Attach(Message, tag="attach", frozen=True, kw_only=True):
    """First message on a data connection: spends a ticket got over the link."""

    ticket: Bytes16  # 16 bytes, good once and for seconds


class Attached(Message, tag="attached", frozen=True, kw_only=True):
    """The ticket was good."""


class AskTicket(Message, tag="ask_ticket", frozen=True, kw_only=True):
    request: RequestId


class Ticket(Message, tag="ticket", frozen=True, kw_only=True):
    request: RequestId
    ticket: Bytes16
    plain: bool  # whether the data connection is to be plain TCP; else TLS


# Presence


class Ping(Message, tag="ping", frozen=True, kw_only=True):
    """Heartbeat; says where the sender's inventory stands."""

    nonce: Counter
    sequence: Counter
    digest: Bytes16  # 16 bytes, of the inventory at this sequence
    deny_list: Annotated[bytes, Meta(max_length=20)] = b""  # the number of the sender's deny list, big-endian; empty: none


class Pong(Message, tag="pong", frozen=True, kw_only=True):
    nonce: Counter


class Peers(Message, tag="peers", frozen=True, kw_only=True):
    """Peer exchange: nodes that the sender is linked to."""

    nodes: Annotated[list[PeerAddress], Meta(max_length=PEERS_PER_MESSAGE_MAX)]


class PeerAddress(msgspec.Struct, frozen=True, kw_only=True):
    node: Node
    host: Annotated[str, Meta(min_length=2, max_length=45)]  # an IP address: a peer must not make us ask the DNS
    port: Port


class AskDenyList(Message, tag="ask_deny_list", frozen=True, kw_only=True):
    """Hardened clusters only (ability `deny`): asks for the newest list of those whom the cluster's authority keeps out."""

    request: RequestId


class DenyListPage(Message, tag="deny_list", frozen=True, kw_only=True):
    """A page of the revocation list, as the authority signed it."""

    request: RequestId
    data: Annotated[bytes, Meta(max_length=DENY_LIST_PAGE_BYTES_MAX)]
    last: bool


class AskInventory(Message, tag="ask_inventory", frozen=True, kw_only=True):
    """Asks for what changed since `since` of the boot named; an unknown boot gets everything."""

    request: RequestId
    boot: Bytes8
    since: Counter


class Inventory(Message, tag="inventory", frozen=True, kw_only=True):
    """One page of an answer: `entries` packs (blob, size, state); state 0 removed, 1 partial, 2 sealed."""

    request: RequestId
    boot: Bytes8
    sequence: Counter
    whole: bool  # the entries are everything, not a delta
    entries: Annotated[bytes, Meta(max_length=42 * ENTRIES_PER_PAGE_MAX)]
    last: bool


# The swarm of a blob


class Interest(Message, tag="interest", frozen=True, kw_only=True):
    """The sender wants (or no longer wants) a blob; answered with `Have`, then `Held` and `Claims` as they change, unless it
    does not care to `watch`: in a large cluster it hears enough from others."""

    blob: BlobName
    size: BlobSize
    on: bool
    watch: bool = True


class Have(Message, tag="have", frozen=True, kw_only=True):
    """The whole chunk map of a blob at the sender. An empty map from a node that holds nothing is an answer too."""

    blob: BlobName
    size: BlobSize
    sealed: bool
    wanted: bool  # the sender is fetching it itself
    chunks: ChunkMapBytes  # chunk map, least significant bit first


class Held(Message, tag="held", frozen=True, kw_only=True):
    """Chunks that came since: packed u32 indices. `given`: the sender holds the whole blob and began to hand these to somebody;
    whoever watches it asks for others first, so that its line carries each chunk once while there is a choice."""

    blob: BlobName
    chunks: Annotated[bytes, Meta(max_length=4 * INDICES_PER_MESSAGE_MAX)]
    given: Annotated[bytes, Meta(max_length=4 * INDICES_PER_MESSAGE_MAX)] = b""


class Claims(Message, tag="claims", frozen=True, kw_only=True):
    """What the sender is receiving now, as packed (u32 first, u32 count): `runs` from a hub, so that nobody else reads them
    there, `coming` from peers, so that others fetch other chunks; `firm` are those of `runs` that it began more than a second
    ago, for which whoever began later gives way. Replaces what it said before; repeated while bytes flow."""

    blob: BlobName
    runs: Annotated[bytes, Meta(max_length=8 * RUNS_PER_MESSAGE_MAX)]
    coming: Annotated[bytes, Meta(max_length=8 * RUNS_PER_MESSAGE_MAX)] = b""
    firm: Annotated[bytes, Meta(max_length=8 * RUNS_PER_MESSAGE_MAX)] = b""


class BadChunk(Message, tag="bad_chunk", frozen=True, kw_only=True):
    """Tells the sender of a chunk that its bytes were wrong, so that it re-hashes its disk."""

    blob: BlobName
    chunk: ChunkIndex


class HubBusy(Message, tag="hub_busy", frozen=True, kw_only=True):
    """A hub asked for patience: the budget is the cluster's."""

    upstream: Host  # host of the hub
    retry_after: Annotated[float, Meta(ge=0, le=HUB_REST_MAX_S)]  # seconds from now


# Words for digests (ability `attest`)


class Attest(Message, tag="attest", frozen=True, kw_only=True):
    """Signed words for chunks of a blob, one after the other: what an audit found, or two that differ, as evidence."""

    blob: BlobName
    size: BlobSize
    words: Annotated[bytes, Meta(max_length=ATTEST_BYTES_MAX)]


class Audit(Message, tag="audit", frozen=True, kw_only=True):
    """The sender holds all chunks of a blob and its own hash is wrong: it reads some of them again, and says what it found."""

    blob: BlobName
    size: BlobSize
    round: Annotated[int, Meta(ge=0, le=AUDIT_ROUNDS_MAX)]  # 0: no more


# Manifests and snapshots


class AskManifest(Message, tag="ask_manifest", frozen=True, kw_only=True):
    """Asks for the digests of a sealed blob."""

    request: RequestId
    blob: BlobName


class ManifestPage(Message, tag="manifest", frozen=True, kw_only=True):
    """Digests from chunk `first` on; the seal's fields stand on every page."""

    request: RequestId
    blob: BlobName
    size: BlobSize
    first: Annotated[int, Meta(ge=0, le=CHUNKS_MAX)]
    digests: Annotated[bytes, Meta(max_length=32 * DIGESTS_PER_PAGE_MAX)]
    root: Bytes32
    signer: Bytes32
    signature: Bytes64
    last: bool


class AskVoucher(Message, tag="ask_voucher", frozen=True, kw_only=True):
    """Closed clusters only (ability `voucher`): asks a member that has sealed a blob to answer for it with its name."""

    request: RequestId
    blob: BlobName


class VoucherPage(Message, tag="voucher", frozen=True, kw_only=True):
    """The answerer's own voucher, packed."""

    request: RequestId
    voucher: Annotated[bytes, Meta(min_length=VOUCHER_BYTES, max_length=VOUCHER_BYTES)]


class AskPieces(Message, tag="ask_pieces", frozen=True, kw_only=True):
    """Ability `pieces`: asks whoever has sealed a blob how Xet cuts it, from piece `first` on. The asker goes on until it has
    all, so that nobody has a long list in memory for another."""

    request: RequestId
    blob: BlobName
    first: PieceIndex


class PiecesPage(Message, tag="pieces", frozen=True, kw_only=True):
    """Pieces from `first` on, 36 bytes each: (hash, u32 length), as many as there are and fit. Nothing vouches for them: their
    root has to be the hub's."""

    request: RequestId
    first: PieceIndex
    pieces: Annotated[bytes, Meta(max_length=PIECE_ENTRY_BYTES * PIECES_PER_PAGE_MAX)]


class AskSnapshot(Message, tag="ask_snapshot", frozen=True, kw_only=True):
    """Closed clusters only: the listing of a repo at a revision, as the peer's hub told it."""

    request: RequestId
    hub: Word
    kind: Word
    name: RepoName
    revision: Revision


class SnapshotPage(Message, tag="snapshot", frozen=True, kw_only=True):
    """A page of the signed JSON document of protocol/snapshots.md."""

    request: RequestId
    data: Annotated[bytes, Meta(max_length=SNAPSHOT_PAGE_BYTES_MAX)]
    last: bool


# Warming (ability `warm`)


class AskWarm(Message, tag="ask_warm", frozen=True, kw_only=True):
    """Closed clusters only: asks the other node to bring a public snapshot in, or how far it is with that."""

    request: RequestId
    hub: Word
    kind: Word
    name: RepoName
    revision: Revision
    include: Globs = []
    exclude: Globs = []
    begin: bool  # false: only tell how far it is


class WarmProgress(Message, tag="warm_progress", frozen=True, kw_only=True):
    """How far it is. The work goes on whether anybody asks or not."""

    request: RequestId
    state: Word  # "running", "done" or "failed"; others are read as "running"
    commit: Annotated[str, Meta(max_length=255)] = ""  # what the revision led to, once known
    files: Counter = 0
    files_done: Counter = 0
    bytes: Counter = 0  # of all files asked for
    here: Counter = 0  # of those: were there before
    peers: Counter = 0
    upstream: Counter = 0
    rate: Annotated[float, Meta(ge=0, le=RATE_MAX)] = 0.0  # bytes/s now
    text: Sentence = ""  # why it failed, for a person


# Private blobs (ability `private`)


class AskPrivate(Message, tag="ask_private", frozen=True, kw_only=True):
    """Closed clusters only: asks for entry to the swarm of a private blob, whose name only those can read who know it."""

    request: RequestId
    name: Bytes32  # the blob's id, hashed under a key of the cluster
    proof: Annotated[bytes, Meta(max_length=32)] = b""  # that the asker can read it at its hub (protocol/private.md)


class Private(Message, tag="private", frozen=True, kw_only=True):
    """The asker is let in, and the answerer shows that it knows the bytes as well."""

    request: RequestId
    proof: Annotated[bytes, Meta(max_length=32)] = b""


# Chunks (data connections)


class Get(Message, tag="get", frozen=True, kw_only=True):
    """Asks for chunks [first, first + count); answered in order by `Chunk` frames, or cut short by one `Problem`."""

    request: RequestId
    blob: BlobName
    size: BlobSize
    first: ChunkIndex
    count: Annotated[int, Meta(ge=1, le=CHUNKS_PER_GET_MAX)]


class Chunk(Message, tag="chunk", frozen=True, kw_only=True):
    """Announces a chunk: exactly `size` raw bytes follow this frame."""

    request: RequestId
    index: ChunkIndex
    size: Annotated[int, Meta(ge=1, le=CHUNK_BYTES)]
    digest: Bytes32  # BLAKE3-256 of those bytes, as the sender knows it
    attestation: Annotated[bytes, Meta(max_length=ATTESTATION_BYTES_MAX)] = b""  # a signed word for that digest


# Ends


class Problem(Message, tag="problem", frozen=True, kw_only=True):
    """A request cannot be answered (`request` > 0), or a message was not understood (0)."""

    request: Annotated[int, Meta(ge=0, le=0xFFFFFFFF)] = 0
    code: Word  # one of PROBLEM_CODES; others are read as "failed"
    text: Sentence = ""


class Bye(Message, tag="bye", frozen=True, kw_only=True):
    """The sender is closing this connection on purpose."""

    reason: Sentence = ""


PROBLEM_CODES: Final = ("unknown_message", "not_held", "busy", "bad_request", "bad_ticket", "refused", "version", "failed")

MESSAGES: Final[tuple[type[Message], ...]] = (
    Hello, Attach, Attached, AskTicket, Ticket, Ping, Pong, Peers, AskDenyList, DenyListPage, AskInventory, Inventory,
    Interest, Have, Held, Claims, BadChunk, HubBusy, Attest, Audit, AskManifest, ManifestPage, AskVoucher, VoucherPage,
    AskPieces, PiecesPage, AskSnapshot, SnapshotPage, AskWarm, WarmProgress, AskPrivate, Private, Get, Chunk, Problem, Bye,
)  # fmt: skip
