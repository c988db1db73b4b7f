"""A small internet in memory: the demo hub and its storage under names of their own, and a router to them.

Nothing here touches a real socket, so tests that wait take `autojump_clock`.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from random import Random

import pytest
import trio
import trio.testing
from noise import noise

from p2pmodel.content import Access, Blob, BlobId, Hub, Repo, RepoKind
from p2pmodel.delivery.ports import Location, Order
from p2pmodel.demo.hub import Hub as DemoHub
from p2pmodel.errors import WrongBytesError
from p2pmodel.limits import CHUNK_BYTES
from p2pmodel.upstream import Router, Upstream
from p2pmodel.upstream.connection import Wires


class Internet:
    """Names, their addresses, and who answers there. `dialled` says which addresses were connected to."""

    def __init__(self, nursery):
        self._nursery = nursery
        self._handlers = {}
        self.names = {}
        self.dialled = []
        self.wires = Wires(resolve=self.resolve, dial=self.dial)

    def add(self, name, address, handle=None, port=80):
        self.names[name] = [address]
        if handle is not None:
            self._handlers[address, port] = handle

    def handler(self, address, port=80):
        return self._handlers[address, port]

    def remove(self, address, port=80):
        del self._handlers[address, port]

    async def resolve(self, host, port):
        await trio.lowlevel.checkpoint()
        if host in self.names:
            return self.names[host]
        if host.replace(".", "").isdecimal() or ":" in host:
            return [host]
        raise OSError(f"no such name: {host}")

    async def dial(self, address, port):
        self.dialled.append(address)
        await trio.lowlevel.checkpoint()
        if address.startswith("192.0.2."):  # a black hole
            await trio.sleep_forever()
        if (address, port) not in self._handlers:
            raise ConnectionRefusedError("connection refused")
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self._handlers[address, port], theirs)
        return ours


HUB_ADDRESS = "151.101.2.1"
CDN_ADDRESS = "151.101.2.2"


@pytest.fixture
def internet(nursery):
    return Internet(nursery)


@pytest.fixture
def hub(internet):
    """Served as hub.example, its storage as cdn.example: two hosts of the internet."""
    demo = DemoHub()
    demo.storage.base_url = "http://cdn.example"
    internet.add("hub.example", HUB_ADDRESS, demo.server.handle)
    internet.add("cdn.example", CDN_ADDRESS, demo.cdn_server.handle)
    return demo


def upstream(name="hub", hub=Hub.HUGGINGFACE, endpoint="http://hub.example", **settings):
    return Upstream(name, hub, endpoint, **{"trusted": True, **settings})


@pytest.fixture
def make_upstream():
    return upstream


@pytest.fixture
def router(internet):
    """`async with router(upstreams…) as opened:` with the demo hub as the default Hugging Face and ModelScope."""

    @asynccontextmanager
    async def opened(*upstreams, **settings):
        chosen = upstreams or (upstream(), upstream("scope", Hub.MODELSCOPE))
        async with Router(chosen, rng=Random(7), wires=internet.wires, **settings) as made:
            yield made

    return opened


class Bytes:
    """A sink that keeps what arrives."""

    def __init__(self, buffers=2):
        self.chunks = {}
        self.digests = {}
        self.grades = set()
        self.received = 0
        self.refused = set()
        self.upstreams = []
        self._limiter = trio.CapacityLimiter(buffers)

    @asynccontextmanager
    async def buffer(self):
        async with self._limiter:
            yield memoryview(bytearray(CHUNK_BYTES))

    def answered_by(self, upstream):
        self.upstreams.append(upstream)

    async def allow(self, count):
        await trio.lowlevel.checkpoint()
        return -(-count // 2)

    def progress(self, received):
        self.received += received

    async def arrived(self, index, data, digest, *, claimed, grade, word=b""):
        await trio.lowlevel.checkpoint()
        if index in self.refused:
            raise WrongBytesError("not what was promised")
        assert claimed is None
        assert index not in self.chunks
        self.chunks[index] = bytes(data)
        self.digests[index] = digest
        self.grades.add(grade)

    @property
    def body(self):
        return b"".join(self.chunks[index] for index in sorted(self.chunks))


@pytest.fixture
def sink():
    return Bytes()


class File:
    """A file on the demo hub, as an order and a location."""

    def __init__(self, demo, body, *, path="model.safetensors", hub=Hub.HUGGINGFACE, kind="model", token=None, **settings):
        self.body = body
        self.commit = demo.add_repo(kind, "org/name", {path: body}, **settings)
        file = demo.repo(kind, "org/name").head.files[path]
        named = f"sha256:{file.content.sha256}" if file.lfs or hub is Hub.MODELSCOPE else f"git-sha1:{file.content.git_sha1}"
        self.blob = Blob(BlobId.parse(named), len(body))
        self.repo = Repo(hub, RepoKind(kind), "org/name")
        self.location = Location(self.repo, self.commit, path, Access(token))

    def order(self, first=0, count=None):
        chunks = -(-self.blob.size // CHUNK_BYTES)
        return Order(self.blob, first, chunks - first if count is None else count)


@pytest.fixture
def put(hub):
    return partial(File, hub)


@pytest.fixture
def big():
    """Three chunks and a bit, no two alike."""
    return noise(3, 3 * CHUNK_BYTES + 12_345)


HF = Repo(Hub.HUGGINGFACE, RepoKind.MODEL, "org/name")
MS = Repo(Hub.MODELSCOPE, RepoKind.MODEL, "org/name")


@pytest.fixture
def hf():
    return HF


@pytest.fixture
def ms():
    return MS


ANYONE = Access()


@pytest.fixture
def anyone():
    return ANYONE
