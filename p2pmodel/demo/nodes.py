"""Daemons on this machine as a user starts them: the real `p2pmodel serve`, each with a state directory of its own, all in
a closed cluster made for the occasion, so that they never mix with a real one on the LAN. The demo and the benchmarks use them.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlencode

import msgspec

from p2pmodel.errors import P2pmodelError
from p2pmodel.peering.membership import new_join_token

START_S: Final = 15.0
STOP_S: Final = 15.0  # more than the daemon's own grace
_POLL_S: Final = 0.02
_SILENCE_S: Final = 30.0
_LOG_LINES: Final = 5
#: What a daemon gets of our environment: nothing that would set it up otherwise (P2PMODEL_…, HF_…, proxies, a supervisor's).
_ENVIRONMENT: Final = ("PATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH")
#: `p2pmodel`, whatever PATH says.
COMMAND: Final = [sys.executable, "-c", "import sys; from p2pmodel.cli import main; sys.exit(main())"]


class Step(msgspec.Struct, kw_only=True):
    """How far a fetch is: bytes of the snapshot's files by where they came from. `path` is in the last one."""

    event: str
    bytes: int = 0
    here: int = 0
    peers: int = 0
    upstream: int = 0
    path: str | None = None
    message: str = ""
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """One running daemon."""

    number: int  # from 1
    folder: Path
    gateway_port: int
    peering_port: int
    process: subprocess.Popen[bytes]

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def fetch(self, repo: str, revision: str = "main") -> Iterator[Step]:
        """Bring a snapshot there and tell the steps. Raises P2pmodelError if it fails."""
        query = urlencode({"repo": repo, "revision": revision})
        with self._answer(f"/-/api/fetch?{query}") as answer:
            for line in answer:
                step = msgspec.json.decode(line, type=Step)
                if step.event == "error":
                    raise P2pmodelError(f"Node {self.number}: {step.message}", next_step=step.next_step)
                yield step
                if step.path:
                    return
        raise P2pmodelError(f"Node {self.number} stopped in the middle of its fetch.", next_step=self.log_tail())

    def status(self) -> dict[str, Any]:
        with self._answer("/-/api/status") as answer:
            document: dict[str, Any] = json.load(answer)
            return document

    def log_tail(self) -> str:
        """The last words of its log."""
        return _log_tail(self.folder)

    def command(self, *arguments: str) -> list[str]:
        """A command of p2pmodel as this node's user gives it."""
        return [*COMMAND, *arguments, "--config", str(self.folder / "config.toml")]

    def _answer(self, target: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway_port, timeout=_SILENCE_S)
        try:
            connection.request("GET", target, headers={"Connection": "close"})  # so that the answer owns the socket
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise P2pmodelError(f"Node {self.number} does not answer: {error}.", next_step=self.log_tail()) from None
        return answer


class Cluster:
    """Nodes that come one by one and know those before them; all are gone when the context is left.

    `settings` are lines of a config file for every node, by section: ``{"store": 'quota = "1GB"'}``.
    """

    def __init__(self, directory: Path, hub_url: str, settings: Mapping[str, str] | None = None) -> None:
        self.nodes: list[Node] = []
        self._processes: list[subprocess.Popen[bytes]] = []  # those that never came up, too
        self._directory = directory
        self._hub_url = hub_url
        self._settings = dict(settings or {})

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        key = self._directory / "cluster-key"
        key.touch(mode=0o600)
        key.write_text(new_join_token() + "\n")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def start(self, count: int) -> list[Node]:
        """So many more nodes, all linked with each other. Raises P2pmodelError if one does not come up."""
        for _ in range(count):
            self.nodes.append(self._start_one())
        self._await_links()
        return self.nodes[-count:]

    def stop(self) -> list[int]:
        """Ask all to end, as systemd would; returns their exit codes (a negative one: had to be killed)."""
        for process in self._processes:
            process.terminate()
        deadline = time.monotonic() + STOP_S
        for process in self._processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
        return [process.wait() for process in self._processes]

    def _start_one(self) -> Node:
        number = len(self.nodes) + 1
        folder = self._directory / f"node{number}"
        folder.mkdir()
        config = folder / "config.toml"
        config.write_text(self._config(folder))
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603  # our own program
                [*COMMAND, "serve", "--config", str(config)],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)  # from here on it is ended, whatever comes
        announcement = _await_announcement(process, folder)
        if announcement is None:
            raise P2pmodelError(f"Node {number} did not start.", next_step=_log_tail(folder))
        gateway_port = int(announcement["gateway"].rpartition(":")[2])
        return Node(number, folder, gateway_port, announcement["peering"], process)

    def _config(self, folder: Path) -> str:
        """TOML strings and lists of strings are written as in JSON."""
        peers = json.dumps([f"127.0.0.1:{node.peering_port}" for node in self.nodes])
        sections = {
            "node": f"state_dir = {json.dumps(str(folder / 'state'))}",
            "gateway": 'listen = "localhost:0"',
            "peering": f'listen = "127.0.0.1:0"\npeers = {peers}',
            "discovery": "mdns = false",
            "cluster": f"key_file = {json.dumps(str(self._directory / 'cluster-key'))}",
            "store": 'min_free = "0"',
        }
        for name, lines in self._settings.items():
            sections[name] = f"{sections.get(name, '')}\n{lines}"
        upstreams = "".join(
            f'[[upstream]]\nname = "{hub}"\nhub = "{hub}"\nendpoint = "{self._hub_url}"\ntrusted = true\n'
            for hub in ("huggingface", "modelscope")
        )
        return "".join(f"[{name}]\n{lines}\n" for name, lines in sections.items()) + upstreams

    def _await_links(self) -> None:
        """Until everybody is linked with everybody: what follows measures the swarm, not its getting together."""
        deadline = time.monotonic() + START_S
        for node in self.nodes:
            while node.status()["peers"] < len(self.nodes) - 1:
                if time.monotonic() > deadline:
                    raise P2pmodelError(f"Node {node.number} did not link with all others.", next_step=node.log_tail())
                time.sleep(_POLL_S)


def _await_announcement(process: subprocess.Popen[bytes], folder: Path) -> dict[str, Any] | None:
    """What the daemon says of itself once it is up."""
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            announcement: dict[str, Any] = json.loads((folder / "state" / "run" / "daemon.json").read_text())
        except FileNotFoundError:
            time.sleep(_POLL_S)
        else:
            return announcement
    return None


def _log_tail(folder: Path) -> str:
    return "\n".join((folder / "log").read_text(errors="replace").splitlines()[-_LOG_LINES:])


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
