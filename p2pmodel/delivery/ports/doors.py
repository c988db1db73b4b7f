"""What delivery offers to the doors: the gateway and the command line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from p2pmodel.content import Access, Blob, FileEntry, Repo, Snapshot
from p2pmodel.delivery.ports.peers import Span


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

    def whereabouts(self, entry: FileEntry) -> str:
        """Where a file would be read from now: "store", "peers" or "upstream". For answers that carry none of its bytes."""

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

    def xorb(self, session: str, name: str, size: int) -> AbstractAsyncContextManager[Part]:
        """A xorb of that name (64 hex digits) and of so many bytes as it lies, which a client uploads by Xet. What belongs
        together has the same `session`."""

    def shard(self, session: str) -> AbstractAsyncContextManager[Part]:
        """Xet's list of the files that a session's xorbs make. Once the hub has taken it, those of which everything came
        through here are hashed and kept, in the background."""

    def changed(self, repo: Repo) -> None:
        """A client changed the repo through us: its branches are asked for anew."""

    def committed(self, repo: Repo, commit: str, access: Access, files: Sequence[bytes]) -> None:
        """The hub took a commit that went through us; `files` are small ones that came within it. What was uploaded is
        private until the hub shows that commit to a stranger: found out in the background."""

    def status(self) -> dict[str, object]:
        """JSON of the live transfers and of what is held."""
