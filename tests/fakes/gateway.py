"""A gateway over real sockets on loopback, between a fake delivery, a fake hub and a client that speaks raw bytes."""

import contextlib
import hashlib
import json
import os
import ssl
from dataclasses import dataclass, field
from functools import partial

import trio

from p2pmodel.content import Blob, BlobId, FileEntry, Hub, Repo, RepoKind, Snapshot
from p2pmodel.delivery.ports import HubAnswer, Span
from p2pmodel.errors import EntryNotFoundError, RepoNotFoundError, UnavailableError
from p2pmodel.gateway import Gateway, TlsDoor, bind

COMMIT = "c0ffee" + "0" * 34


def blob_of(data, *, lfs=True):
    if lfs:
        return Blob(BlobId("sha256", hashlib.sha256(data).hexdigest()), len(data))
    return Blob(BlobId("git-sha1", hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()), len(data))


class FakeReader:
    """Gives a file's bytes in spans, once it may; what it may not is the test's to say."""

    sources = "store"

    def __init__(self, delivery, data, start, stop):
        self._delivery = delivery
        self._data = data
        self._at, self._stop = start, stop

    async def ready(self):
        self._delivery.waiting.set()
        await self._delivery.gate.wait()
        if self._delivery.failure:
            raise self._delivery.failure

    async def next_span(self):
        await trio.lowlevel.checkpoint()
        if self._at >= self._delivery.fails_at:
            if self._delivery.fails_once:
                self._delivery.fails_at = 1 << 60
            raise UnavailableError("The last source is gone.")
        length = min(self._delivery.span_bytes, self._stop - self._at)
        if not length:
            return None
        fd = os.memfd_create("blob")
        try:
            os.write(fd, self._data[: self._delivery.on_disk_bytes])
            span = Span(fd, self._at, length)
        finally:
            os.close(fd)
        self._at += length
        return span


@dataclass
class FakePart:
    data: bytearray = field(default_factory=bytearray)
    accepted: bool = False

    async def put(self, data):
        await trio.lowlevel.checkpoint()
        self.data += data

    def accept(self):
        self.accepted = True


@dataclass
class FakeDelivery:
    """Repos by name: their files by path. A file in `hashless` has no usable hash."""

    repos: dict = field(default_factory=dict)
    hashless: set = field(default_factory=set)
    listings: dict = field(default_factory=dict)
    infos: dict = field(default_factory=dict)
    revision_lists: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)
    given_up: int = 0
    span_bytes: int = 1 << 20
    on_disk_bytes: int = 1 << 60
    fails_at: int = 1 << 60
    fails_once: bool = False
    failure: Exception | None = None
    gate: trio.Event = field(default_factory=trio.Event)
    waiting: trio.Event = field(default_factory=trio.Event)
    left: trio.Event = field(default_factory=trio.Event)
    steps: list = field(default_factory=list)
    parts: list = field(default_factory=list)  # (hex, size, start, bytes, accepted)
    xorbs: list = field(default_factory=list)  # (session, name, size, bytes, accepted)
    shards: list = field(default_factory=list)  # (session, bytes, accepted)
    commits: list = field(default_factory=list)
    changes: list = field(default_factory=list)

    def __post_init__(self):
        self.gate.set()

    async def snapshot(self, repo, revision, access):
        self.asked.append((repo, revision, access))
        await trio.lowlevel.checkpoint()
        if repo not in self.repos:
            raise RepoNotFoundError("There is no such repo.")
        files = tuple(
            FileEntry(path, len(data), None if path in self.hashless else blob_of(data, lfs=not path.endswith(".json")))
            for path, data in self.repos[repo].items()
        )
        return Snapshot(repo, COMMIT, files, self.listings.get(repo, b"[]"), public=True)

    async def entry(self, repo, revision, path, access):
        snapshot = await self.snapshot(repo, revision, access)
        entry = snapshot.entry(path)
        if entry is None:
            raise EntryNotFoundError("There is no such file.", commit=snapshot.commit)
        return snapshot, entry

    async def info(self, repo, revision, access):
        await self.snapshot(repo, revision, access)
        if repo not in self.infos:
            raise UnavailableError("The hub does not answer.")
        return self.infos[repo]

    async def revisions(self, repo, access):
        await self.snapshot(repo, "", access)
        if repo not in self.revision_lists:
            raise UnavailableError("The hub does not answer.")
        return self.revision_lists[repo]

    def whereabouts(self, entry):
        return "store"

    @contextlib.asynccontextmanager
    async def read(self, snapshot, entry, start, stop, access):
        self.asked.append((entry.path, start, stop, access))
        try:
            async with trio.open_nursery():  # as the real one: contexts and cancel scopes must nest
                yield FakeReader(self, self.repos[snapshot.repo][entry.path], start, stop)
        except BaseException:
            self.given_up += 1
            self.left.set()
            raise

    @contextlib.asynccontextmanager
    async def fetch(self, repo, revision, selection, access, *, offline=False):
        self.asked.append((repo, revision, selection, access))
        if repo not in self.repos:
            raise RepoNotFoundError("There is no such repo.", next_step="Check its name.")
        yield self._steps()

    @contextlib.asynccontextmanager
    async def warm(self, repo, revision, selection, nodes):
        self.asked.append((repo, revision, selection, nodes))
        if repo not in self.repos:
            raise RepoNotFoundError("There is no such repo.")
        yield self._steps()

    @contextlib.asynccontextmanager
    async def part(self, blob, start):
        part = FakePart()
        yield part
        self.parts.append((blob.id.hex, blob.size, start, bytes(part.data), part.accepted))

    @contextlib.asynccontextmanager
    async def xorb(self, session, name, size):
        part = FakePart()
        yield part
        self.xorbs.append((session, name, size, bytes(part.data), part.accepted))

    @contextlib.asynccontextmanager
    async def shard(self, session):
        part = FakePart()
        yield part
        self.shards.append((session, bytes(part.data), part.accepted))

    def changed(self, repo):
        self.changes.append(repo)

    def committed(self, repo, commit, access, files):
        self.commits.append((repo, commit, files))

    async def _steps(self):
        for step in self.steps:
            await trio.lowlevel.checkpoint()
            if isinstance(step, Exception):
                raise step
            yield step

    def status(self):
        return {}


@dataclass
class FakeUpstreams:
    """Answers every request that is passed on alike, and remembers it with its body."""

    status: int = 200
    headers: list = field(default_factory=lambda: [("Content-Type", "application/json")])
    body: bytes = b"{}"
    down: bool = False
    home: str = ""
    requests: list = field(default_factory=list)
    bodies: list = field(default_factory=list)

    async def pass_on(self, request):
        await trio.lowlevel.checkpoint()
        if self.down:
            raise UnavailableError("The hub does not answer.")
        return self._passing(request)

    @contextlib.asynccontextmanager
    async def _passing(self, request):
        self.requests.append(request)
        self.bodies.append(b"".join([piece async for piece in request.body]) if request.body is not None else None)
        yield HubAnswer(self.status, self.headers, self._pieces(), self.home)

    async def _pieces(self):
        await trio.lowlevel.checkpoint()
        yield self.body


@dataclass
class Answer:
    status: int
    headers: dict
    body: bytes
    interims: list
    raw: bytes = b""

    def json(self):
        return json.loads(self.body)


class RawClient:
    """One connection; requests are written as bytes, answers read strictly."""

    def __init__(self, stream, port):
        self.stream = stream
        self.port = port
        self._buffer = b""

    async def send(self, data):
        await self.stream.send_all(data if isinstance(data, bytes) else data.encode())

    async def get(self, target, *headers, method="GET", body=b"", host=None, read=True):
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host or f'localhost:{self.port}'}", *headers, "", ""]
        await self.send("\r\n".join(lines).encode("latin-1") + body)
        return await self.answer(head_only=method == "HEAD") if read else None

    async def _more(self):
        data = await self.stream.receive_some(65536)
        if not data:
            raise EOFError(self._buffer)
        self._buffer += data

    async def _head(self):
        while b"\r\n\r\n" not in self._buffer:
            await self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        return int(first.split(" ")[1]), {name.lower(): value for name, value in pairs}

    async def answer(self, *, head_only=False):
        interims = []
        status, headers = await self._head()
        while status < 200:
            interims.append(status)
            status, headers = await self._head()
        if head_only or status in {204, 304}:
            return Answer(status, headers, b"", interims)
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, await self._chunks(), interims)
        return Answer(status, headers, await self.take(int(headers["content-length"])), interims)

    async def interim(self):
        return (await self._head())[0]

    async def _chunks(self):
        body = b""
        while True:
            while b"\r\n" not in self._buffer:
                await self._more()
            size, _, self._buffer = self._buffer.partition(b"\r\n")
            data = await self.take(int(size, 16) + 2)
            if not int(size, 16):
                return body
            body += data[:-2]

    async def take(self, count):
        while len(self._buffer) < count:
            await self._more()
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    async def rest(self):
        """Everything up to the end of the stream; raises BrokenResourceError on RST."""
        while data := await self.stream.receive_some(65536):
            self._buffer += data
        data, self._buffer = self._buffer, b""
        return data


@dataclass
class Rig:
    """A running gateway and what stands around it."""

    gateway: Gateway
    delivery: FakeDelivery
    upstreams: FakeUpstreams
    port: int
    clients: contextlib.AsyncExitStack
    ready: list
    tls_port: int = 0

    async def connect_over_tls(self, authority, name="127.0.0.1"):
        """A client that trusts this authority and no other."""
        context = ssl.create_default_context(cafile=authority)
        stream = trio.SSLStream(await trio.open_tcp_stream("127.0.0.1", self.tls_port), context, server_hostname=name)
        self.clients.push_async_callback(trio.aclose_forcefully, stream)
        await stream.do_handshake()
        return RawClient(stream, self.tls_port)

    async def connect(self):
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        return RawClient(await self.clients.enter_async_context(stream), self.port)

    async def get(self, target, *headers, **options):
        client = await self.connect()
        return await client.get(target, *headers, **options)

    def add(self, name, files, *, hub=Hub.HUGGINGFACE, kind=RepoKind.MODEL):
        repo = Repo(hub, kind, name)
        self.delivery.repos[repo] = files
        return repo


async def status_page(asked):
    if asked.get("fail"):
        raise RepoNotFoundError("No such thing.")
    return {"node": "n1", "peers": [], **asked}


@contextlib.asynccontextmanager
async def running(*, delivery=None, upstreams=None, host="127.0.0.1", certificate=None, **options):
    delivery, upstreams, ready = delivery or FakeDelivery(), upstreams or FakeUpstreams(), []

    async def why_not_ready():
        return ready[0] if ready else None

    gateway = Gateway(
        delivery,
        upstreams,
        ready=why_not_ready,
        render_metrics=lambda: b"metric 1\n",
        report={"status": status_page},
        **options,
    )
    listeners = bind(host, 0)
    port = listeners[0].getsockname()[1]
    tls = TlsDoor(bind(host, 0), certificate.context) if certificate else None
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(gateway.serve, listeners, tls=tls))
        async with contextlib.AsyncExitStack() as clients:
            yield Rig(gateway, delivery, upstreams, port, clients, ready, tls.listeners[0].getsockname()[1] if tls else 0)
        nursery.cancel_scope.cancel()
