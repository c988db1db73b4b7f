"""A hub in memory behind the `Upstreams` port: any number of nodes share one, it counts every byte and fails on demand."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import lru_cache

import trio

from p2pmodel.content import (
    Access,
    Blob,
    BlobId,
    FileEntry,
    Grade,
    Hub,
    Repo,
    RepoKind,
    Snapshot,
    chunk_digest,
    chunk_size,
    chunk_start,
)
from p2pmodel.errors import (
    RateLimitedError,
    RepoNotFoundError,
    RevisionNotFoundError,
    ShortAnswerError,
    UnavailableError,
    WrongAnswerError,
)
from p2pmodel.limits import CHUNK_BYTES, HUB_READ_TIMEOUT_S

REPO = Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/model")
NOBODY = Access()
PIECE = CHUNK_BYTES // 4


@lru_cache(64)  # the same few files are named again and again
def blob_of(data):
    return Blob(BlobId("sha256", hashlib.sha256(data).hexdigest()), len(data))


@dataclass
class MemoryHub:
    """`rate` is bytes/s shared by all readers (0: none), `trusted` whether its bytes are graded OWN."""

    rate: float = 0.0
    trusted: bool = True
    down: bool = False
    patience_s: float = 0.0  # every request is answered 429 with this Retry-After
    breaks_every: int = 0  # every so many pieces a body breaks off
    stalled: bool = False  # bodies stand still
    pieces: int = 0
    files: dict[BlobId, bytes] = field(default_factory=dict)
    repos: dict[Repo, dict[str, Snapshot]] = field(default_factory=dict)
    heads: dict[tuple[Repo, str], str] = field(default_factory=dict)
    tokens: dict[Repo, set[str]] = field(default_factory=dict)  # a repo that stands here is private
    listed: set[Repo] = field(default_factory=set)  # private ones whose listing anybody may see
    sent: Counter = field(default_factory=Counter)  # bytes by blob
    asked: Counter = field(default_factory=Counter)  # metadata questions by verb
    roots: dict[BlobId, bytes] = field(default_factory=dict)  # Xet's, by the hub's word
    corrupt: dict[tuple[BlobId, int], int] = field(default_factory=dict)  # (blob, chunk) → how many times yet
    free_at: float = 0.0

    def publish(self, files, repo=REPO, branch="main", tokens=None):
        entries = []
        for path, data in files.items():
            blob = blob_of(data)
            self.files[blob.id] = data
            entries.append(FileEntry(path, len(data), blob))
        commit = hashlib.sha1(repr(sorted((entry.path, str(entry.blob)) for entry in entries)).encode()).hexdigest()
        if tokens is not None:
            self.tokens[repo] = set(tokens)
        snapshot = Snapshot(repo, commit, tuple(entries), b"[]", public=repo not in self.tokens)
        self.repos.setdefault(repo, {})[commit] = snapshot
        self.heads[repo, branch] = commit
        return snapshot

    @property
    def bytes_sent(self):
        return sum(self.sent.values())

    async def take(self, count):
        """Wait for a turn on the shared uplink."""
        self.pieces += 1
        if self.breaks_every and self.pieces % self.breaks_every == 0:
            raise ShortAnswerError("The hub's answer broke off.")
        if self.stalled:
            await trio.sleep(HUB_READ_TIMEOUT_S)
            raise UnavailableError("The hub's answer stands still.")
        if self.rate:
            begin = max(self.free_at, trio.current_time())
            self.free_at = begin + count / self.rate
            await trio.sleep_until(self.free_at)
        else:
            await trio.lowlevel.checkpoint()


class MemoryUpstreams:
    """One node's way to the hub. `carry(count)`, where given, takes its time on the node's own cable."""

    def __init__(self, hub, latency=0.01, carry=None):
        self.hub = hub
        self.latency = latency
        self.carry = carry
        self.cut = False
        self.rested = {}

    async def _reach(self, verb):
        await trio.sleep(self.latency)
        if self.hub.down or self.cut:
            raise UnavailableError("The hub does not answer.")
        self.hub.asked[verb] += 1
        if self.hub.patience_s:
            raise RateLimitedError("The hub asks for patience.", retry_after_s=self.hub.patience_s)

    def _admitted(self, repo, access):
        return repo not in self.hub.tokens or access.token in self.hub.tokens[repo]

    def _resolve(self, repo, revision, access):
        if repo not in self.hub.repos or not (self._admitted(repo, access) or repo in self.hub.listed):
            raise RepoNotFoundError(f"No repo {repo}.")
        commit = self.hub.heads.get((repo, revision), revision)
        if commit not in self.hub.repos[repo]:
            raise RevisionNotFoundError(f"{repo} has no revision {revision}.")
        return self.hub.repos[repo][commit]

    async def snapshot(self, repo, revision, access):
        await self._reach("snapshot")
        return replace(self._resolve(repo, revision, access), public=self._admitted(repo, NOBODY))

    async def commit(self, repo, revision, access):
        await self._reach("commit")
        return self._resolve(repo, revision, access).commit, self._admitted(repo, NOBODY)

    async def info(self, repo, revision, access):
        await self._reach("info")
        return f'{{"id": "{repo}", "sha": "{self._resolve(repo, revision, access).commit}"}}'.encode()

    async def revisions(self, repo, access):
        await self._reach("revisions")
        return b'["%s"]' % self._resolve(repo, "main", access).commit.encode(), self._admitted(repo, Access())

    async def may_read(self, location):
        await self._reach("may_read")
        return self._admitted(location.repo, location.access)

    async def xet_root(self, locations, blob):
        try:
            await self._reach("xet_root")
        except (RateLimitedError, UnavailableError):
            return None
        admitted = any(self._admitted(location.repo, location.access) for location in locations)
        return self.hub.roots.get(blob.id) if admitted else None

    async def read_range(self, location, blob, start, stop):
        await self._reach("range")
        if not self._admitted(location.repo, location.access):
            raise RepoNotFoundError("No such repo.")
        self.hub.sent[blob.id] += stop - start
        return self.hub.files[blob.id][start:stop]

    def source(self, locations):
        return MemoryHubSource(self, locations)

    def rest(self, host, seconds):
        self.rested[host] = seconds

    async def pass_on(self, request):
        raise UnavailableError("not here")


class MemoryHubSource:
    def __init__(self, upstreams, locations):
        self._upstreams = upstreams
        self._locations = locations

    async def fetch(self, order, sink):
        hub = self._upstreams.hub
        await self._upstreams._reach("file")
        if not any(self._upstreams._admitted(location.repo, location.access) for location in self._locations):
            raise RepoNotFoundError("No such repo.")
        sink.answered_by("memory")
        data = hub.files.get(order.blob.id)
        if data is None or len(data) != order.blob.size:
            raise WrongAnswerError("no such file")
        for index in range(order.first, order.first + order.count):
            await self._chunk(order, index, data, sink)

    async def _chunk(self, order, index, data, sink):
        hub, size, start = self._upstreams.hub, chunk_size(order.blob.size, index), chunk_start(index)
        async with sink.buffer() as buffer:
            view = buffer[:size]
            offset = allowed = 0
            while offset < size:
                if offset == allowed:
                    allowed += await sink.allow(size - offset)
                count = min(PIECE, allowed - offset)
                await hub.take(count)
                if self._upstreams.carry:
                    await self._upstreams.carry(count)
                if hub.down or self._upstreams.cut:
                    raise UnavailableError("The hub is gone.")
                view[offset : offset + count] = data[start + offset : start + offset + count]
                hub.sent[order.blob.id] += count
                sink.progress(count)
                offset += count
            if hub.corrupt.get((order.blob.id, index), 0) > 0:
                hub.corrupt[order.blob.id, index] -= 1
                view[0] ^= 0xFF
            grade = Grade.OWN if hub.trusted else Grade.MIRROR
            await sink.arrived(index, view, chunk_digest(view), claimed=None, grade=grade)
