"""Upstreams: every configured way to every hub, behind one door."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from p2pmodel.content import Access, Blob, Hub, Repo, Snapshot
from p2pmodel.delivery.ports.sources import Source


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
    url: str = ""  # where the hub itself sends an upload's bytes (its storage), instead of `target`; gets no credential,
    own_credential: bool = False  # … unless the request's is one that the hub gave for that storage


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

    async def commit(self, repo: Repo, revision: str, access: Access) -> tuple[str, bool]:
        """Resolve a branch or tag only (cheap); and whether the repo is public, as far as that question tells."""

    async def info(self, repo: Repo, revision: str, access: Access) -> bytes:
        """The hub's own JSON about a repo at a revision, Xet triggers removed."""

    async def revisions(self, repo: Repo, access: Access) -> tuple[bytes, bool]:
        """The hub's own JSON about a repo's branches and tags, and whether it took no credential."""

    async def may_read(self, location: Location) -> bool:
        """Whether the hub would give this file to this credential now."""

    async def xet_root(self, locations: Sequence[Location], blob: Blob) -> bytes | None:
        """The root of the blob's pieces, by the hub's own word, in some seconds; None where it has none or cannot be asked."""

    async def read_range(self, location: Location, blob: Blob, start: int, stop: int) -> bytes:
        """A few bytes [start, stop) of a file, by this credential and no other."""

    def source(self, locations: Sequence[Location]) -> Source:
        """Reads chunks of a blob from wherever the order of upstreams, their health and the locations allow."""

    def rest(self, host: str, seconds: float) -> None:
        """A peer says that a hub's host asked for patience."""

    async def pass_on(self, request: HubRequest) -> AbstractAsyncContextManager[HubAnswer]:
        """Hand a request to the hub and stream the answer."""
