"""What delivery needs of the world, in few verbs. Each port has a real room behind it and a fake in the tests,
held to one contract suite. Store verbs block: delivery calls them through its `Blocking` seam, a simulation runs it inline.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final, Literal, Protocol, Self, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pmodel.content import (
    Access,
    Blob,
    BlobId,
    ChunkMap,
    Circle,
    FileEntry,
    Grade,
    Hub,
    Manifest,
    NodeId,
    Repo,
    Seal,
    Snapshot,
)
from p2pmodel.content.attestation import CLUSTER_BYTES
from p2pmodel.delivery.blocking import Blocking
from p2pmodel.delivery.buffers import Buffers
from p2pmodel.delivery.pace import Pace
from p2pmodel.delivery.recorder import FlightRecorder, Unrecorded
from p2pmodel.errors import StoreError
from p2pmodel.limits import ACCESS_ALLOW_S
from p2pmodel.swarm import Rates, Standing
from p2pmodel.wire.messages import InventoryEntry, Message

T = TypeVar("T")

_NOBODY = NodeId("")
NOWHERE: Final = Circle(bytes(CLUSTER_BYTES))  # the circle of a node that has no cluster


# Sources: a peer or an upstream, where chunks come from


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
        self, index: int, data: memoryview, digest: bytes, *, claimed: bytes | None, grade: Grade, word: bytes = b""
    ) -> None:
        """A whole chunk is in `data`. `digest` is what the source's code computed over it while it was hot, `claimed` what
        the sender said it would be (None from a hub), `word` the attestation that came with it. Raises WrongBytesError;
        returns when the buffer may be used again."""


class Source(Protocol):
    async def fetch(self, order: Order, sink: Sink) -> None:
        """Deliver every chunk of the order, or raise SourceError (for a hub also UnavailableError) after as many as came."""


# Upstreams: every configured way to every hub, behind one door


@dataclass(frozen=True, slots=True)
class Location:
    """Where on a hub a blob's bytes can be read."""

    repo: Repo
    commit: str
    path: str
    access: Access


@dataclass(frozen=True, slots=True)
class HubRequest:
    """A client's request that we hand on as it is (unknown API routes, writes)."""

    hub: Hub
    method: str
    target: str  # raw path and query
    headers: Sequence[tuple[str, str]]
    body: AsyncIterator[bytes] | None
    url: str = ""  # where the hub itself sends an upload's bytes (its storage), instead of `target`; gets no credential


@dataclass(frozen=True, slots=True)
class HubAnswer:
    status: int
    headers: Sequence[tuple[str, str]]  # hop-by-hop, Xet and Set-Cookie-for-others removed, links rewritten to `{endpoint}`
    body: AsyncIterator[bytes]
    home: str = ""  # the endpoint that answered: links in the body that begin with it lead to us as well


class Upstreams(Protocol):
    """Errors of every verb: NotFoundError and its kinds, NotAuthorisedError, RateLimitedError, UnavailableError."""

    async def snapshot(self, repo: Repo, revision: str, access: Access) -> Snapshot:
        """Resolve a branch, tag or commit and list all its files, completely. `public` is found out without a token first."""

    async def commit(self, repo: Repo, revision: str, access: Access) -> str:
        """Resolve a branch or tag only (cheap)."""

    async def info(self, repo: Repo, revision: str, access: Access) -> bytes:
        """The hub's own JSON about a repo at a revision, Xet triggers removed."""

    async def revisions(self, repo: Repo, access: Access) -> tuple[bytes, bool]:
        """The hub's own JSON about a repo's branches and tags, and whether it took no credential."""

    async def may_read(self, location: Location) -> bool:
        """Whether the hub would give this file to this credential now."""

    async def read_range(self, location: Location, blob: Blob, start: int, stop: int) -> bytes:
        """A few bytes [start, stop) of a file, by this credential and no other."""

    def source(self, locations: Sequence[Location]) -> Source:
        """Reads chunks of a blob from wherever the order of upstreams, their health and the locations allow."""

    def rested_until(self, hub: Hub) -> float:
        """Trio time until which the hub asked for patience (0 when it did not)."""

    def rest(self, host: str, seconds: float) -> None:
        """A peer says that a hub's host asked for patience."""

    async def pass_on(self, request: HubRequest) -> AbstractAsyncContextManager[HubAnswer]:
        """Hand a request to the hub and stream the answer."""


# The store


@dataclass(frozen=True, slots=True)
class BlobState:
    blob: Blob
    held: int  # chunks
    sealed: bool
    private: bool


class StoredBlob(Protocol):
    """A blob of the store, open. One live object per blob; closed when its last user closes it.

    The three maps are live: they change as chunks come and go, and stay the same objects. `held`: written and verified in
    this run. `own`: of those, the ones whose grade lets them leave before the seal. `claimed`: an earlier run's record says so;
    `confirm` makes them held.
    """

    blob: Blob
    sealed: bool
    private: bool
    seal: Seal | None  # ours or a peer's, once there is one

    @property
    def held(self) -> ChunkMap: ...

    @property
    def own(self) -> ChunkMap: ...

    @property
    def claimed(self) -> ChunkMap: ...

    def fileno(self) -> int: ...

    def digest(self, index: int) -> bytes | None:
        """32 bytes, None while unknown."""

    def grade(self, index: int) -> Grade:
        """Who vouches for the digest of a chunk that is held and not sealed."""

    def write(self, index: int, data: memoryview, digest: bytes, grade: Grade) -> None:
        """Put a verified chunk at its place; then it is held. An own chunk, which clients may be reading, is never replaced:
        raises WrongBytesError for other bytes; StoreFullError, StoreError."""

    def commit(self) -> None:
        """Group commit: sync data, append to the record, sync. What was held before the call is durable after it."""

    def confirm(self, index: int) -> bool:
        """Re-hash a claimed chunk: held if it is what the record says, else forgotten."""

    def check(self, index: int) -> bool:
        """Whether a held chunk on disk still is what it was; hashes on first use and when the file's stat moved. A damaged
        chunk is dropped (and a sealed blob is sealed no more)."""

    def read_into(self, index: int, buffer: memoryview) -> None: ...

    def drop(self, chunks: Iterable[int]) -> None:
        """Forget chunks that turned out false or damaged."""

    def finish(self, alias: BlobId | None, seal: Seal) -> None:
        """All chunks are here and the blob's own hash was right: sync, rename, sync the directory, read-only, sealed. Raises
        WrongBytesError if what is here is not (or no longer) what the seal speaks for, StoreError."""

    def manifest(self) -> Manifest:
        """Of a complete blob."""

    def close(self) -> None: ...


class Spool(Protocol):
    """A nameless file: what a client uploads through us, until it is proven. Gone with its last user. Raises StoreError."""

    def write(self, data: bytes, offset: int) -> None: ...

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """How many bytes came."""

    def close(self) -> None: ...


class Store(Protocol):
    def find(self, blob: BlobId) -> BlobState | None:
        """Aliases (git-sha1 and sha256 of one small file) lead to the same state."""

    def open(self, blob: Blob, *, private: bool) -> StoredBlob:
        """Open what is there, or begin a partial blob. A public caller opening a private blob makes it public."""

    def spool(self, size: int) -> Spool:
        """Room for so many bytes that nobody has proven yet. Raises StoreFullError, StoreError."""

    def blobs(self) -> Sequence[BlobState]: ...

    def inventory(self) -> tuple[int, bytes]:
        """Sequence number (of this boot) and 16-byte digest of the public inventory. Cheap, called often."""

    def inventory_since(self, sequence: int) -> Sequence[InventoryEntry] | None:
        """Changes since a sequence of this boot; None when it is too old to tell (send everything)."""

    def put_snapshot(self, snapshot: Snapshot) -> None: ...

    def snapshot(self, repo: Repo, commit: str) -> Snapshot | None: ...

    def snapshots(self) -> Sequence[tuple[Repo, str]]: ...

    def put_ref(self, repo: Repo, revision: str, commit: str) -> None:
        """Pin a branch or tag to the commit that the hub last said."""

    def ref(self, repo: Repo, revision: str) -> str | None: ...

    def put_document(self, key: str, body: bytes) -> None:
        """Small hub answers kept for later (model info): key is chosen by the caller."""

    def document(self, key: str) -> bytes | None: ...

    def materialise(self, snapshot: Snapshot, files: Sequence[FileEntry]) -> Path:
        """The snapshot's directory in the Hugging Face cache tree, with links for the sealed blobs of `files`."""

    def close(self) -> None: ...


# Peers


class Neighbours(Protocol):
    """The linked peers."""

    def linked(self) -> Sequence[NodeId]: ...

    def weight(self, peer: NodeId) -> str:
        """What rendezvous hashing weighs: the address in open mode (ids are free to mint), the id in a closed cluster."""

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
        """AskInventory, AskManifest, AskSnapshot, AskWarm, AskPrivate: the pages, or one Problem."""

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


@dataclass(frozen=True, slots=True)
class Sharing:
    """Which peers may have private blobs: none, those who prove access, or all members. `accepted_keys` are the cluster's, ours
    first: while it changes its key there are two. `lasts_s`: how long a proof is believed."""

    policy: Literal["off", "prove", "members"] = "off"
    node: NodeId = _NOBODY
    accepted_keys: Callable[[], Sequence[bytes]] = tuple
    lasts_s: float = ACCESS_ALLOW_S


def _no_time() -> float:
    return 0.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The rooms and seams that delivery stands on, wired once in daemon.py (or by a simulation)."""

    store: Store
    upstreams: Upstreams
    neighbours: Neighbours
    blocking: Blocking
    buffers: Buffers
    standing: Standing
    rng: Random
    key: Ed25519PrivateKey  # this node's: signs seals and listings
    rates: Rates = field(default_factory=Rates)
    closed: bool = False  # members of a closed cluster vouch for listings to each other
    sharing: Sharing = Sharing()
    circle: Callable[[], Circle] = lambda: NOWHERE
    vouchers: int = 0  # how many members' seals let bytes of a closed cluster leave before our own check
    peer_pace: Pace = field(default_factory=Pace)  # of what comes from peers
    hub_pace: Pace = field(default_factory=Pace)  # of chunks from hubs
    recorder: FlightRecorder = field(default_factory=Unrecorded)
    wall: Callable[[], float] = _no_time  # unix seconds


# What delivery offers to the doors (gateway, command line)


class Reader(Protocol):
    """A range of a file on its way to a client."""

    @property
    def sources(self) -> str:
        """ "store", "peers", "upstream" or "mixed": where the bytes come from (X-P2pmodel-Source). Known once `ready`."""

    async def ready(self) -> None:
        """Returns when the body may start: every byte of the range may leave, or they stream in order from our own read
        of the hub (DESIGN §9.1). Until then the client is kept alive. Raises UnavailableError, StoreFullError, …"""

    async def next_span(self) -> Span | None:
        """The next bytes in order, checked; None at the end. Raises as `ready`."""


class Part(Protocol):
    """One request's share of an upload that passes through us to a hub. Never raises but for bugs: what the disk does not
    take is not kept, and the upload goes on."""

    async def put(self, data: bytes) -> None:
        """The next bytes, as they went to the hub."""

    def accept(self) -> None:
        """The hub has taken them. Once all of a file's bytes are, they are hashed and kept, in the background."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which files of a snapshot: all of them, or named ones, or by shell patterns (fnmatch on the whole path)."""

    paths: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """A fetch under way; bytes of its files by where they came from."""

    commit: str
    files: int
    files_done: int
    bytes: int
    here: int  # were in the store when the fetch began
    peers: int
    upstream: int
    rate: float  # bytes/s over the last seconds
    path: str | None = None  # the snapshot's directory, once done


@dataclass(frozen=True, slots=True)
class NodeWarm:
    """How far one node is in bringing a snapshot in. `state`: "asking", "running", "done", "failed", or "lost" for one that
    does not answer any more (it may go on). `node` is "here" for this one."""

    node: str
    address: str
    state: str = "asking"
    commit: str = ""
    files: int = 0
    files_done: int = 0
    bytes: int = 0
    here: int = 0
    peers: int = 0
    upstream: int = 0
    rate: float = 0.0
    text: str = ""  # why it failed


@dataclass(frozen=True, slots=True)
class WarmStep:
    commit: str
    nodes: tuple[NodeWarm, ...]
    over: bool  # all have ended


class Delivery(Protocol):
    async def snapshot(self, repo: Repo, revision: str, access: Access) -> Snapshot:
        """The complete listing at a branch, tag or commit; remembered per commit; checked against the hub for this credential
        where the repo is not public. Errors: NotFoundError…, NotAuthorisedError…, RateLimitedError, UnavailableError."""

    async def entry(self, repo: Repo, revision: str, path: str, access: Access) -> tuple[Snapshot, FileEntry]:
        """Raises EntryNotFoundError (with the commit) as well."""

    async def info(self, repo: Repo, revision: str, access: Access) -> bytes:
        """The hub's own JSON about the repo, also when the hub is gone."""

    async def revisions(self, repo: Repo, access: Access) -> bytes:
        """The hub's own JSON about the branches and tags; with the hub gone, what it last said to everybody."""

    def read(
        self, snapshot: Snapshot, entry: FileEntry, start: int, stop: int, access: Access
    ) -> AbstractAsyncContextManager[Reader]:
        """A reader of bytes [start, stop) of a file; leaving the context gives up the download if nobody else wants it."""

    def fetch(
        self, repo: Repo, revision: str, selection: Selection, access: Access, *, offline: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[Progress]]:
        """Bring files of a snapshot here; yields progress a few times a second, the last one with `path`. `offline`: without
        asking a hub, only from what is here or at a peer."""

    def warm(
        self, repo: Repo, revision: str, selection: Selection, nodes: str
    ) -> AbstractAsyncContextManager[AsyncIterator[WarmStep]]:
        """Have nodes of the cluster ("all", a number, or names between commas) bring files of a public snapshot in, and watch.
        They go on when the context is left. Raises ConfigError, NotFoundError, NotAuthorisedError, UnavailableError."""

    def part(self, blob: Blob, start: int) -> AbstractAsyncContextManager[Part]:
        """Bytes of a file from `start` on, which a client uploads under that name."""

    def changed(self, repo: Repo) -> None:
        """A client changed the repo through us: its branches are asked for anew."""

    def committed(self, repo: Repo, commit: str, access: Access, files: Sequence[bytes]) -> None:
        """The hub took a commit that went through us; `files` are small ones that came within it. What was uploaded is
        private until the hub shows that commit to a stranger: found out in the background."""

    def status(self) -> dict[str, object]:
        """JSON of the live transfers and of what is held."""
