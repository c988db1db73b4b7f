"""The demo hub: Hugging Face and ModelScope in one small server, from memory or from a folder.

    hub = Hub()
    commit = hub.add_repo("model", "acme/tiny", {"config.json": b"{}", "model.safetensors": Path("weights")})
    async with serve(hub) as running:
        ...  # HF_ENDPOINT=running.url, MODELSCOPE_ENDPOINT=running.url
    assert hub.stats()["file_bytes"] == ...

``ThreadedHub(hub)`` does the same for synchronous code, ``python -m p2pmodel.demo.hub DIR`` as a process of its own,
which others watch and steer by GET /__stats and /__log, POST /__faults, POST /__settings and POST /__reset.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

import click
import trio

from p2pmodel.content import RepoKind
from p2pmodel.demo import folder
from p2pmodel.demo.cdn import Cdn
from p2pmodel.demo.counters import Counters, Seen
from p2pmodel.demo.exchange import Answer, Request, json_answer, route
from p2pmodel.demo.faults import Fault, Faults
from p2pmodel.demo.huggingface import HuggingFace
from p2pmodel.demo.modelscope import ModelScope
from p2pmodel.demo.pace import Pace, parse_rate
from p2pmodel.demo.quota import Quota
from p2pmodel.demo.repos import Content, HubFile, HubRepo, User
from p2pmodel.demo.server import HttpServer
from p2pmodel.demo.shelf import Shelf

_START_S: Final = 10.0  # a thread that has not bound its ports by then never will


class Hub:
    """Repos, users, dialects, counters and faults in one place. Everything may be changed while it is served."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        self.counters = Counters()
        self.faults = Faults()
        self.pace = Pace()
        self.quota = Quota()
        self.cdn: Literal["redirect", "direct"] = "redirect"  # LFS files: from the storage host, or from here
        self.storage = Cdn()
        self.huggingface = HuggingFace(self.shelf, self._cdn_url, self.storage)
        self.modelscope = ModelScope(self.shelf, self._cdn_url)
        server = partial(HttpServer, faults=self.faults, counters=self.counters, pace=self.pace)
        self.server = server("hub", self.answer)
        self.cdn_server = server("cdn", self._stored)

    @classmethod
    def from_folder(cls, directory: Path) -> Hub:
        """Serve what lies there as it is (see folder.py). Raises OSError or ValueError if it cannot be read."""
        hub = cls()
        for token, name in folder.read_users(directory).items():
            hub.add_user(token, name)
        for found in folder.read_repos(directory):
            hub.add_repo(found.kind, found.name, found.files, private=found.private, gated=found.gated)
        return hub

    # What it holds.

    def add_repo(
        self,
        kind: RepoKind | str,
        name: str,
        files: Mapping[str, bytes | Path | Content],
        *,
        private: bool = False,
        gated: bool = False,
        branch: str = "main",
    ) -> str:
        """A repo with one commit, whose 40 hex digits are returned. Raises ValueError if the name is taken."""
        repo = HubRepo(RepoKind(kind), name, private=private, gated=gated)
        self.shelf.put(repo)
        return repo.commit(files, branch=branch)

    def repo(self, kind: RepoKind | str, name: str) -> HubRepo:
        """To add commits, branches and tags to. Raises KeyError."""
        return self.shelf.repos[RepoKind(kind), name]

    def remove_repo(self, kind: RepoKind | str, name: str) -> None:
        """Raises KeyError if there is none."""
        del self.shelf.repos[RepoKind(kind), name]

    def rename(self, old: str, new: str, *, kind: RepoKind | str = RepoKind.MODEL) -> None:
        """The old name redirects from now on."""
        self.shelf.rename(RepoKind(kind), old, new)

    def add_user(self, token: str, name: str, *, grants: Iterable[str] | None = None) -> None:
        """`grants` names the private and gated repos that this user may read beside the own ones; None: all."""
        self.shelf.users[token] = User(name, None if grants is None else frozenset(grants))

    # How it behaves, and what it saw.

    def fault(self, match: str, **effects: Any) -> None:  # noqa: ANN401  # the fields of Fault
        """Add a fault: ``hub.fault("resolve", status=503, times=2)``."""
        self.faults.add(Fault(match, **effects))

    def stats(self) -> dict[str, Any]:
        return self.counters.as_dict()

    @property
    def log(self) -> list[Seen]:
        """The requests so far, oldest first."""
        return list(self.counters.log)

    def reset(self) -> None:
        """Forget counters and faults; repos, users and settings stay."""
        self.counters.reset()
        self.faults.clear()

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Set rate ("100mbit" or null), quota ([requests, seconds] or null), cdn, xet, hashes_in_info, resolve_cache,
        page_entries or files_max, by name. Raises ValueError."""
        for name, value in settings.items():
            if name == "rate":
                self.pace.rate = None if value is None else parse_rate(value)
            elif name == "quota":
                self.quota.set(*(value or (None, 0.0)))
            elif name == "cdn" and value in {"redirect", "direct"}:
                self.cdn = value
            elif name in {"xet", "resolve_cache", "hashes_in_info"}:
                setattr(self.huggingface, name, bool(value))
            elif name == "page_entries":
                self.huggingface.page_entries = int(value)
            elif name == "files_max":
                self.modelscope.files_max = None if value is None else int(value)
            else:
                raise ValueError(f"no such setting: {name}={value!r}")

    def answer(self, request: Request) -> Answer:
        """What the hub's own host says."""
        if request.steers:
            return self._steered(request)
        return self.quota.spend() or self.quota.told(self._answered(request))

    def _answered(self, request: Request) -> Answer:
        if request.path.startswith(("/api/v1/", "/openapi/")):
            return self.modelscope.answer(request)
        return self.huggingface.answer(request)

    def _stored(self, request: Request) -> Answer:
        xet = self.huggingface.writing.xet
        return route(xet.routes, request) if request.path.startswith("/cas/") else self.storage.answer(request)

    def _steered(self, request: Request) -> Answer:
        try:
            match request.method, request.path:
                case "GET", "/__stats":
                    return json_answer(200, self.stats())
                case "GET", "/__log":
                    return json_answer(200, [asdict(seen) for seen in self.log])
                case "POST", "/__faults":
                    return json_answer(200, {"added": self.faults.add_json(json.loads(request.body))})
                case "POST", "/__settings":
                    self.configure(json.loads(request.body))
                    return json_answer(200, {})
                case "POST", "/__reset":
                    self.reset()
                    return json_answer(200, {})
        except (ValueError, TypeError, AttributeError, re.error) as error:
            return json_answer(400, {"error": str(error)})
        return json_answer(404, {"error": "Not Found"})

    def _cdn_url(self, label: str, file: HubFile) -> str | None:
        return self.storage.signed_url(label, file) if self.cdn == "redirect" else None


@dataclass(frozen=True, slots=True)
class RunningHub:
    hub: Hub
    url: str
    cdn_url: str


@asynccontextmanager
async def serve(hub: Hub, host: str = "127.0.0.1", port: int = 0, *, cdn_host: str | None = None) -> AsyncIterator[RunningHub]:
    """Listen on two ports, hub and storage, for as long as the block runs. Raises OSError if a port cannot be had.

    Redirects lead to `cdn_host`, by default `host` on another port. To cookies and to some clients that is the same host:
    127.0.0.2 (on Linux) or localhost makes it another.
    """
    cdn_host = cdn_host or host
    [listener] = await trio.open_tcp_listeners(port, host=host)
    [cdn_listener] = await trio.open_tcp_listeners(0, host=cdn_host)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, hub.server.handle, [listener]))
        nursery.start_soon(partial(trio.serve_listeners, hub.cdn_server.handle, [cdn_listener]))
        running = RunningHub(hub, _url(host, listener), _url(cdn_host, cdn_listener))
        hub.storage.base_url = running.cdn_url
        try:
            yield running
        finally:
            hub.storage.base_url = None
            nursery.cancel_scope.cancel()


class ThreadedHub:
    """A served hub for synchronous code: ``with ThreadedHub(hub) as running: ...``."""

    def __init__(self, hub: Hub, host: str = "127.0.0.1", port: int = 0, *, cdn_host: str | None = None) -> None:
        self._serve = partial(serve, hub, host, port, cdn_host=cdn_host)
        self._thread = threading.Thread(target=trio.run, args=(self._main,), name="demo hub", daemon=True)
        self._started = threading.Event()
        self._running: RunningHub | None = None
        self._error: OSError | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._stop: trio.CancelScope = trio.CancelScope()

    def __enter__(self) -> RunningHub:
        self._thread.start()
        if not self._started.wait(_START_S) or self._running is None:
            raise self._error or TimeoutError("the demo hub does not start")
        return self._running

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._token is not None:
            self._token.run_sync_soon(self._stop.cancel)
        self._thread.join()

    async def _main(self) -> None:
        try:
            with self._stop:
                async with self._serve() as self._running:
                    self._token = trio.lowlevel.current_trio_token()
                    self._started.set()
                    await trio.sleep_forever()
        except OSError as error:
            self._error = error
        finally:
            self._started.set()


def _url(host: str, listener: trio.SocketListener) -> str:
    port = listener.socket.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _serve_for_ever(hub: Hub, host: str, port: int, cdn_host: str | None, *, as_json: bool) -> None:
    async with serve(hub, host, port, cdn_host=cdn_host) as running:
        repos = [f"{repo.kind}s/{repo.name}" for repo in hub.shelf.repos.values()]
        if as_json:
            print(json.dumps({"url": running.url, "cdn_url": running.cdn_url, "repos": repos}), flush=True)
        else:
            print(f"serving {len(repos)} repos: HF_ENDPOINT={running.url} MODELSCOPE_ENDPOINT={running.url}", flush=True)
        await trio.sleep_forever()


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="An address that clients can reach.")
@click.option("--cdn-host", help="The same for the storage host; --host if not given.")
@click.option("--port", default=0, help="0 takes a free one.")
@click.option("--rate", help="One rate for all connections together, e.g. 100mbit.")
@click.option("--print-json", "as_json", is_flag=True, help="Say where it listens in one line of JSON.")
def main(directory: Path, host: str, cdn_host: str | None, port: int, rate: str | None, *, as_json: bool) -> None:
    """Serve DIRECTORY/models/org/name/… and DIRECTORY/datasets/org/name/… until interrupted."""
    hub = Hub.from_folder(directory)
    hub.configure({"rate": rate})
    trio.run(partial(_serve_for_ever, hub, host, port, cdn_host, as_json=as_json))


if __name__ == "__main__":
    main()
