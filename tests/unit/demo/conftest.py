"""A client without sockets: each question goes over a memory stream to the server's own code."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import Any

import h11
import pytest
import trio
import trio.testing

from p2pmodel.demo.hub import Hub

CDN = "http://storage.example"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes
    complete: bool  # False: the connection ended before the body did

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def ask(
        self, target: str, method: str = "GET", *, token: str | None = None, body: bytes = b"", **headers: str
    ) -> Reply:
        """One request on a connection of its own; a URL of the storage host goes there."""
        server = self._hub.cdn_server if target.startswith(CDN) else self._hub.server
        sent = {"Host": "hub.example"} | {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if body:
            sent["Content-Length"] = str(len(body))
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.handle, theirs)
            async with ours:
                return await _exchange(
                    ours, h11.Request(method=method, target=target.removeprefix(CDN), headers=list(sent.items())), body
                )

    async def fetch(self, target: str, **asked: Any) -> Reply:
        """Follow redirects as a client does: the token stays behind when the host changes."""
        reply = await self.ask(target, **asked)
        while "location" in reply.headers:
            location = reply.headers["location"]
            if location.startswith("http"):
                asked.pop("token", None)
            reply = await self.ask(location, **asked)
        return reply


async def _exchange(stream: trio.abc.Stream, request: h11.Request, body: bytes) -> Reply:
    connection = h11.Connection(h11.CLIENT)
    await stream.send_all(connection.send(request))
    if body:
        await stream.send_all(connection.send(h11.Data(data=body)))
    await stream.send_all(connection.send(h11.EndOfMessage()))
    head, received = None, bytearray()
    try:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some(65536)))
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                received += event.data
            elif isinstance(event, h11.ConnectionClosed):
                break
    except (h11.RemoteProtocolError, trio.BrokenResourceError):
        return _reply(head, received, complete=False)
    return _reply(head, received, complete=True)


def _reply(head: h11.Response | None, body: bytearray, *, complete: bool) -> Reply:
    if head is None:
        return Reply(0, {}, b"", complete=False)
    headers = {name.decode(): value.decode() for name, value in head.headers}
    return Reply(head.status_code, headers, bytes(body), complete)


WEIGHTS = bytes(range(256)) * 40  # 10,240 bytes, LFS by its suffix
FILES = {"config.json": b'{"a": 1}', "sub/deep/vocab.txt": b"hello\n", "model.safetensors": WEIGHTS, "empty.txt": b""}


@pytest.fixture
def hub() -> Hub:
    """One public model, `acme/tiny`, and a user alice who may read everything."""
    hub = Hub()
    hub.storage.base_url = CDN
    hub.add_repo("model", "acme/tiny", FILES)
    hub.add_user("hf_alice", "alice")
    return hub


@pytest.fixture
def client(hub: Hub) -> Client:
    return Client(hub)


@pytest.fixture
def commit(hub: Hub) -> str:
    return hub.repo("model", "acme/tiny").head.id


@pytest.fixture
def ask(client: Client) -> partial:
    return partial(client.ask)
