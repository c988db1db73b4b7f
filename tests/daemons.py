"""Real daemons and a hub that can be cut off: what the end-to-end tests and the tests of real clients stand on.

    site = Site(); site.hub.add_repo("model", "acme/tiny", {...})
    with site, House(folder, site) as house:
        one = house.daemon("one")
        two = house.daemon("two", peers=[one])
        assert two.fetch("acme/tiny")["upstream"] == 0

Each daemon is `p2pmodel serve` in a process of its own, with a state directory, a config file, a log and an environment of
its own; its ports are free ones. Nothing here knows what is inside p2pmodel but the demo hub.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import p2pmodel
from p2pmodel.demo.hub import Hub, RunningHub, ThreadedHub

MIB: Final = 1 << 20
CHUNK: Final = 4 * MIB
PROGRAM: Final = str(Path(sys.executable).with_name("p2pmodel"))
_PATIENCE_S: Final = 20.0  # a busy machine; every wait ends as soon as what it waits for is so

_AS_NOBODY: Final = """
import encodings.idna, os, sys  # what is imported later must be readable to that user
from p2pmodel import config
from p2pmodel.cli import info, limits, list, main
os.setgid(65534); os.setuid(65534)
raise SystemExit(main(sys.argv[1:]))"""


def until(fact: Callable[[], Any], what: str, patience_s: float = _PATIENCE_S) -> Any:
    """Wait for `fact` to be true; what it returned."""
    deadline = time.monotonic() + patience_s
    while not (found := fact()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience_s:g} s in vain for {what}")
        time.sleep(0.01)
    return found


class Site:
    """The hub, and the line that leads to it: it can be cut and comes back at the same address."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.url = ""
        self._served: ThreadedHub | None = None
        self._port = 0

    def up(self) -> RunningHub:
        self._served = ThreadedHub(self.hub, port=self._port, cdn_host="localhost")
        running = self._served.__enter__()
        self.url = running.url
        self._port = int(running.url.rpartition(":")[2])
        return running

    def down(self) -> None:
        if self._served is not None:
            self._served.__exit__(None, None, None)
            self._served = None

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    @property
    def upstreams(self) -> str:
        """What a config file says of it."""
        table = '[[upstream]]\nname = "{0}"\nhub = "{0}"\nendpoint = "{1}"\ntrusted = true\n'
        return "".join(table.format(hub, self.url) for hub in ("huggingface", "modelscope"))

    @property
    def sent(self) -> int:
        """Body bytes of files so far."""
        return self.hub.counters.file_bytes


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class User:
    """Somebody with a home directory of their own and nothing else in their environment."""

    def __init__(self, home: Path, environ: Mapping[str, str] | None = None, before: Iterable[str] = ()) -> None:
        self.home = home
        self.before = tuple(before)  # words to put before each command, as `ip netns exec …`
        self.home.mkdir(parents=True, exist_ok=True)
        self.environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(p2pmodel.__file__).parents[1]),  # the code that the tests see, whatever is installed
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "NO_PROXY": "*",
            **{
                name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ
            },  # a tree that is tried before it lands
            **(environ or {}),
        }
        self._begun: list[subprocess.Popen[str]] = []

    def begin(self, *arguments: str | Path, **environ: str) -> subprocess.Popen[str]:
        """Start a command and go on."""
        process = subprocess.Popen(
            [*self.before, PROGRAM, *map(str, arguments)],
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._begun.append(process)
        return process

    def run(self, *arguments: str | Path, **environ: str) -> Done:
        return finish(self.begin(*arguments, **environ))

    def leave(self) -> None:
        """Whatever a failed test has left behind."""
        for process in self._begun:
            if process.returncode is None:
                process.kill()
                process.communicate()


def finish(process: subprocess.Popen[str], patience_s: float = 40.0) -> Done:
    """Wait for a command that was begun."""
    try:
        out, err = process.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"it does not end; it said: {out}{err}") from None
    return Done(process.returncode, out, err)


class Daemon:
    """One node: a config file, and the process that serves by it while it is up."""

    def __init__(self, user: User, folder: Path, settings: Mapping[str, Any], upstreams: str) -> None:
        self.user = user
        self.folder = folder
        self.state = folder / "state"
        self.config = folder / "config.toml"
        self.log_file = folder / "log"
        self.port = 0
        self.peering = 0
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        keys = {"node.state_dir": str(self.state), "store.min_free": 0, **settings}
        self.config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()) + upstreams)

    # Its life

    def begin(self, *, before: Iterable[str] = (), pass_fds: tuple[int, ...] = (), **environ: str) -> subprocess.Popen[bytes]:
        """Start the process and go on. `before` are words to put before the command, as `setpriv --reuid …`."""
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.user.before, *before, PROGRAM, "serve", "--config", str(self.config)],
                env=self.user.environ | environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=pass_fds,
            )
        return self.process

    def start(self, **how: Any) -> Self:
        """Up, and listening."""
        self.begin(**how)
        return self.started()

    def started(self, patience_s: float = _PATIENCE_S) -> Self:
        """Wait until the process that was begun is up."""
        process = self.process
        assert process is not None
        said = until(lambda: self._announcement(process), f"{self.folder.name} to be up", patience_s)
        self.port = int(said["gateway"].rpartition(":")[2])
        self.peering = said["peering"]
        return self

    def _announcement(self, process: subprocess.Popen[bytes]) -> Any:
        if process.poll() is not None:
            raise AssertionError(f"{self.folder.name} ended with {process.returncode}: {self.log}")
        try:
            said = json.loads((self.state / "run/daemon.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):  # an earlier run's, which a power cut has emptied
            return None
        return said if said["pid"] == process.pid else None

    def stop(self, patience_s: float = _PATIENCE_S) -> int:
        """SIGTERM, and its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.wait(patience_s)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.wait()

    def wait(self, patience_s: float = _PATIENCE_S) -> int:
        """Until it has ended; its exit code."""
        assert self.process is not None
        return self.process.wait(patience_s)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    @property
    def fell(self) -> bool:
        """Whether a bug ended it, or was logged."""
        return "Traceback" in self.log or "p2pmodel itself failed" in self.log

    # Its commands

    def begin_command(self, name: str, *arguments: str | Path, **environ: str) -> subprocess.Popen[str]:
        return self.user.begin(*name.split(), *arguments, "--config", self.config, **environ)

    def command(self, name: str, *arguments: str | Path, **environ: str) -> Done:
        return finish(self.begin_command(name, *arguments, **environ))

    def command_of_nobody(self, *words: str) -> Done:
        """A command of another user of this machine. Only root can play that; `folder` must be one that all may enter."""
        ask = [sys.executable, "-c", _AS_NOBODY, *words, "--state-dir", str(self.state)]
        done = subprocess.run(
            ask, env=self.user.environ | {"HOME": "/nonexistent"}, capture_output=True, text=True, check=False, timeout=40
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def fetch(self, repo: str, *arguments: str | Path, **environ: str) -> dict[str, Any]:
        """`p2pmodel fetch` that must succeed: its JSON."""
        done = self.command("fetch", repo, "--json", *arguments, **environ)
        assert done.code == 0, done.err
        document: dict[str, Any] = done.json
        return document

    # Its doors

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def ask(self, path: str, *, method: str = "GET", patience_s: float = _PATIENCE_S, **headers: str) -> Answer:
        """One request; `_` in a header's name stands for `-`."""
        with closing(self.door(patience_s)) as connection:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers={"Host": f"localhost:{self.port}"} | named)
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

    def door(self, patience_s: float) -> http.client.HTTPConnection:
        """A connection to its gateway."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=patience_s)

    def bring(self, repo: str, hub: str = "huggingface", **query: str) -> dict[str, Any]:
        """What `p2pmodel fetch` asks the daemon, without the process: the last line of its answer."""
        asked = "&".join(f"{name}={value}" for name, value in {"repo": repo, "hub": hub, **query}.items())
        last: dict[str, Any] = json.loads(self.ask(f"/-/api/fetch?{asked}", patience_s=60.0).body.splitlines()[-1])
        return last

    def metrics(self, name: str) -> dict[str, float]:
        """A metric's values by their labels as written: `{"direction=\"in\",…": 7.0}`."""
        text = self.ask("/metrics").body.decode()
        return {labels: float(value) for labels, value in re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE)}

    def received(self, source: str) -> int:
        """Bytes of files from "peer" or "upstream" since it started."""
        return int(self.metrics("p2pmodel_bytes_total")[f'direction="in",source="{source}"'])

    def linked(self, count: int, patience_s: float = _PATIENCE_S) -> Self:
        """Wait until so many peers are linked."""
        until(
            lambda: len(self.ask("/-/api/peers").json["peers"]) == count,
            f"{self.folder.name} to have {count} links",
            patience_s,
        )
        return self


class House:
    """The daemons of a test, in one folder; whatever still runs at the end is killed."""

    def __init__(self, folder: Path, site: Site, settings: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.site = site
        self.settings = settings or {}
        self.user = User(folder / "home")
        self._daemons: list[Daemon] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in self._daemons:
            if daemon.running:
                daemon.kill()
        self.user.leave()
        bugs = [f"{daemon.folder.name}: {daemon.log}" for daemon in self._daemons if daemon.fell]
        assert not bugs, "\n".join(bugs)

    def plan(self, name: str, peers: Iterable[Daemon] = (), **settings: Any) -> Daemon:
        """A node that is configured and not up. In a setting's name `__` stands for the dot."""
        given = {key.replace("__", "."): value for key, value in settings.items()}
        on_loopback = {
            "gateway.listen": "localhost:0",
            "peering.listen": "127.0.0.1:0",
            "peering.peers": [f"127.0.0.1:{peer.peering}" for peer in peers],
            "discovery.mdns": False,
        }
        chosen = {**on_loopback, **self.settings, **given}
        if "cluster.key_file" not in chosen:
            chosen.setdefault("cluster.mode", "open")  # whatever key this machine's own cluster has in /etc
        daemon = Daemon(self.user, self.folder / name, chosen, self.site.upstreams)
        self._daemons.append(daemon)
        return daemon

    def daemon(self, name: str, peers: Iterable[Daemon] = (), **settings: Any) -> Daemon:
        """A node that is up and linked to its peers."""
        peers = list(peers)
        return self.plan(name, peers, **settings).start().linked(len(peers))


def files_in(directory: Path | str) -> dict[str, bytes]:
    """Everything below a directory, by relative path."""
    directory = Path(directory)
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
