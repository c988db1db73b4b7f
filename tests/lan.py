"""A LAN of several hosts on this machine, with real daemons and a hub behind a line of its own: `tests/lab/lab` from Python.

    with Lan(folder, 3, origin_rate="100mbit") as lan:
        lan.hub.add_repo("model", "acme/tiny", {...})
        one, two = lan.daemon(1).start(), lan.daemon(2).start()
        lan.cut(2)

A host is a network namespace; the files are the machine's own, so each daemon has a state directory in `folder`. The hub runs
in this process, its listening sockets in the origin's namespace. Needs root and iproute2, nftables, gcc, ethtool.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from daemons import Daemon, Site, User, until

from p2pmodel.demo.hub import RunningHub, ThreadedHub

T = TypeVar("T")

LAB: Final = Path(__file__).with_name("lab") / "lab"
HUB_PORT: Final = 8000
PEERING_PORT: Final = 7277
_ORIGIN: Final = "10.77.255.1"
_CLONE_NEWNET: Final = 0x40000000
_TOOLS: Final = {"ip": "iproute2", "tc": "iproute2", "nft": "nftables", "gcc": "gcc", "ethtool": "ethtool"}


def missing() -> str | None:
    """Why there can be no lab here; None if there can."""
    if sys.platform != "linux" or os.geteuid():
        return "network namespaces need root on Linux"
    if lacking := sorted({package for tool, package in _TOOLS.items() if shutil.which(tool) is None}):
        return f"apt-get install {' '.join(lacking)}"
    name = f"probe{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"this machine allows no network namespaces: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return None


def enter(namespace: str) -> None:
    """This thread, and no other, lives in that network namespace from now on."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/run/netns/{namespace}").open() as handle:
        if libc.setns(handle.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")


def inside(namespace: str, make: Callable[[], T]) -> T:
    """Call `make` in a namespace. A socket keeps the namespace that it was made in."""
    made: list[T] = []
    failed: list[OSError] = []

    def go() -> None:
        try:
            enter(namespace)
            made.append(make())
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


class _HubInside(ThreadedHub):
    """Its thread, and so its listeners, are in a namespace."""

    namespace = ""

    async def _main(self) -> None:
        enter(self.namespace)
        await super()._main()


class _LanSite(Site):
    def __init__(self, namespace: str) -> None:
        super().__init__()
        self._namespace = namespace

    def up(self) -> RunningHub:
        self._served = _HubInside(self.hub, _ORIGIN, HUB_PORT)
        self._served.namespace = self._namespace
        running = self._served.__enter__()
        self.url = running.url
        return running


class Host(Daemon):
    """A daemon on its host. `number` counts from 1."""

    def __init__(self, namespace: str, number: int, folder: Path, settings: dict[str, Any], upstreams: str) -> None:
        self.namespace = namespace
        self.number = number
        self.address = address(number)
        super().__init__(
            User(folder.with_name(f"home-{folder.name}"), before=("ip", "netns", "exec", namespace)),
            folder,
            settings,
            upstreams,
        )

    def door(self, patience_s: float) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=patience_s)
        connection.sock = inside(self.namespace, lambda: socket.create_connection(("127.0.0.1", self.port), patience_s))
        return connection

    def steps(self, repo: str, patience_s: float = 60.0) -> Iterator[tuple[float, dict[str, Any]]]:
        """Fetch, and tell each step with the time when it was heard. Silence for `patience_s` is an error."""
        connection = self.door(patience_s)
        try:
            connection.request("GET", f"/-/api/fetch?repo={repo}", headers={"Host": f"localhost:{self.port}"})
            for line in connection.getresponse():
                yield time.monotonic(), json.loads(line)
        finally:
            connection.close()

    @property
    def peers(self) -> list[dict[str, Any]]:
        """The linked ones."""
        found: list[dict[str, Any]] = self.ask("/-/api/peers").json["peers"]
        return found

    @property
    def cpu_s(self) -> float:
        """What it has used so far."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def descriptors(self) -> int:
        """How many it has open."""
        assert self.process is not None
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    @property
    def memory(self) -> int:
        """Bytes of anonymous RSS."""
        assert self.process is not None
        rows = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(row.split()[1] for row in rows if row.startswith("RssAnon"))) * 1024


def address(number: int) -> str:
    """Of a host of the lab."""
    return f"10.77.{(number - 1) // 250}.{(number - 1) % 250 + 1}"


class Lan:
    """`shape` are flags of `lab up`: rate, delay, loss, origin_rate, origin_delay."""

    _labs = 0

    def __init__(self, folder: Path, hosts: int, **shape: str) -> None:
        Lan._labs += 1
        self.name = f"t{os.getpid() % 1_000_000}x{Lan._labs}"
        self.folder = folder
        self.hosts = hosts
        self.site = _LanSite(f"{self.name}-origin")
        self.hub = self.site.hub
        self._shape = [f"--{key.replace('_', '-')}={value}" for key, value in shape.items()]
        self._up: list[Host] = []

    def __enter__(self) -> Self:
        try:
            self.lab("up", self.hosts, *self._shape)
            self.site.up()
        except BaseException:
            self.lab("down")
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for host in self._up:
            if host.running:
                host.kill()
            host.user.leave()
        self.site.down()
        self.lab("down")

    def lab(self, *words: object) -> str:
        """A command of the lab; what it printed."""
        done = subprocess.run(
            [sys.executable, LAB, "--name", self.name, *map(str, words)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise AssertionError(f"lab {' '.join(map(str, words))}: {done.stdout}{done.stderr}")
        return done.stdout

    @property
    def sent(self) -> int:
        """Body bytes of files that the hub sent."""
        return self.site.sent

    @property
    def frames(self) -> dict[str, dict[str, int]]:
        """Bytes `sent` and `received` by "origin", "n1", …, as the switch counts them."""
        counted: dict[str, dict[str, int]] = json.loads(self.lab("stats", "--json"))
        return counted

    def namespace(self, number: int) -> str:
        return f"{self.name}-n{number}" if number else f"{self.name}-origin"

    def daemon(self, number: int, name: str = "", **settings: Any) -> Host:
        """A node on a host, configured and not up. In a setting's name `__` stands for the dot."""
        given = {key.replace("__", "."): value for key, value in settings.items()}
        folder = self.folder / (name or f"n{number}")
        host = Host(self.namespace(number), number, folder, given, self.site.upstreams)
        self._up.append(host)
        return host

    def daemons(self, numbers: Iterable[int], name: str = "n", **settings: Any) -> list[Host]:
        """Nodes that are up and all linked with each other."""
        hosts = [self.daemon(number, f"{name}{number}", **settings) for number in numbers]
        for host in hosts:
            host.begin()
        for host in hosts:
            host.started()
        for host in hosts:
            host.linked(len(hosts) - 1)
        return hosts

    def cut(self, *numbers: int) -> None:
        """Nobody reaches these hosts (0: the hub's), nor they anybody."""
        self.lab("partition", *numbers)

    def split(self, *groups: Iterable[int]) -> None:
        """Groups of hosts that do not reach each other."""
        self.lab("split", *(",".join(map(str, group)) for group in groups))

    def heal(self, *numbers: int) -> None:
        self.lab("heal", *numbers)

    def shape(self, number: int, **flags: str) -> None:
        self.lab("shape", number, *(f"--{key}={value}" for key, value in flags.items()))

    def multicast(self, *, on: bool) -> None:
        self.lab("multicast", "on" if on else "off")


def within(seconds: float, fact: Callable[[], Any], what: str) -> float:
    """Wait for a fact; after how many seconds it was true."""
    began = time.monotonic()
    until(fact, what, seconds)
    return time.monotonic() - began
