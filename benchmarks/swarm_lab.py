"""Many nodes, one hub, a slow line: how many bytes the hub sends and when the last node is done, in a lab of real daemons.

    sudo python benchmarks/swarm_lab.py [cold] [holder] [fifty] [libtorrent] [aria2] [--mib 512] [--rounds 1] [--plot DIR]

Needs root and the tools of tests/lab/README.md; `libtorrent` needs that module (`pip install libtorrent`), `aria2` the program.

cold        8 nodes start together, nobody has anything; hub behind 100 Mbit/s, links of 1 Gbit/s
holder      1 node has it, 7 start together; links of 200 Mbit/s
fifty       as cold with 50 nodes and 64 MiB: bytes only, as 50 Python daemons do not fit this many cores
libtorrent  as cold, by libtorrent with the hub as web seed
aria2       as cold, by aria2 with the hub as web seed

The clock starts when all nodes are linked with each other. `hub bytes` are HTTP body bytes of files against the model's size,
`hub frames` what the switch saw from the hub's port. `ideal` is the size over the rate of the line that must carry it once.
The lab adds no delay: its emulator would take the CPU that the daemons need.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

sys.path[:0] = [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parent)]

import torrents  # noqa: E402  # lies beside
from lan import Host, Lan, missing  # noqa: E402  # lies in tests/

MIB: Final = 1 << 20
MODEL: Final = "acme/big"
FILE: Final = "model.safetensors"
LINKED_S: Final = 300.0

Trace = list[tuple[float, int, int]]  # seconds since the start, bytes from peers, bytes from the hub


@dataclass(frozen=True, slots=True)
class Result:
    name: str
    size: int
    ideal_s: float
    hub_bytes: int
    hub_frames: int
    done_s: list[float]
    cpu_s: float
    memory: int = 0
    traces: tuple[Trace, ...] = ()

    @property
    def row(self) -> str:
        last = max(self.done_s)
        return (
            f"{self.name:<24} {self.size / MIB:>5.0f} {len(self.done_s):>5} {self.hub_bytes / self.size:>9.3f} x "
            f"{self.hub_frames / self.size:>9.3f} x {min(self.done_s):>7.1f} {last:>7.1f} {self.ideal_s:>7.1f} "
            f"{last / self.ideal_s:>6.2f} x {self.cpu_s / (self.size * len(self.done_s) / 1e9):>8.2f} {self.memory / MIB:>7.0f}"
        )


HEAD: Final = (
    f"{'what':<24} {'MiB':>5} {'nodes':>5} {'hub bytes':>11} {'hub frames':>11} {'first s':>7} {'last s':>7} {'ideal s':>7} "
    f"{'last':>8} {'CPU s/GB':>8} {'RSS MiB':>7}"
)


def write_model(file: Path, size: int, seed: int) -> Path:
    """Bytes that no two chunks share."""
    dice = random.Random(seed)
    with file.open("wb") as stream:
        for start in range(0, size, MIB):
            stream.write(dice.randbytes(min(MIB, size - start)))
    return file


@contextmanager
def lab(nodes: int, size: int, seed: int, folder: Path | None, **shape: str) -> Iterator[Lan]:
    """The LAN, and a hub with the model."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        model = write_model(Path(scratch) / FILE, size, seed)
        with Lan(Path(scratch), nodes, **shape) as lan:
            lan.hub.add_repo("model", MODEL, {FILE: model})
            yield lan


def linked(lan: Lan, numbers: range) -> list[Host]:
    began = time.monotonic()
    hosts = [lan.daemon(number) for number in numbers]
    for host in hosts:
        host.begin()
    for host in hosts:
        host.started(LINKED_S)
    for host in hosts:
        host.linked(len(hosts) - 1, LINKED_S)
    print(f"{len(hosts)} nodes up and linked after {time.monotonic() - began:.1f} s", flush=True)
    return hosts


def race(name: str, lan: Lan, hosts: list[Host], size: int, rate: float) -> Result:
    """All these hosts fetch the model from the same moment on."""
    lan.hub.reset()
    frames, cpu = lan.frames["origin"]["sent"], sum(host.cpu_s for host in hosts)
    began = time.monotonic()

    def fetch(host: Host) -> Trace:
        trace, last = [], {}
        for at, last in host.steps(MODEL, patience_s=120.0):
            trace.append((at - began, last.get("peers", 0), last.get("upstream", 0)))
        if last.get("event") != "done":
            raise RuntimeError(f"node {host.number}: {last}\n{host.log}")
        return trace

    with ThreadPoolExecutor(len(hosts)) as together:
        traces = tuple(together.map(fetch, hosts))
    return Result(
        name,
        size,
        ideal_s=size * 8 / rate,
        hub_bytes=lan.sent,
        hub_frames=lan.frames["origin"]["sent"] - frames,
        done_s=[trace[-1][0] for trace in traces],
        cpu_s=sum(host.cpu_s for host in hosts) - cpu,
        memory=max(host.memory for host in hosts),
        traces=traces,
    )


def cold(arguments: argparse.Namespace, size: int, nodes: int = 8) -> Result:
    with lab(nodes, size, arguments.seed, arguments.dir, rate="1gbit", origin_rate="100mbit") as lan:
        return race(f"{nodes} cold at once", lan, linked(lan, range(1, nodes + 1)), size, 100e6)


def holder(arguments: argparse.Namespace, size: int) -> Result:
    with lab(8, size, arguments.seed, arguments.dir, rate="200mbit", origin_rate="1gbit") as lan:
        first, *others = linked(lan, range(1, 9))
        if first.bring(MODEL)["event"] != "done":
            raise RuntimeError(first.log)
        return race("1 holder to 7", lan, others, size, 200e6)


def fifty(arguments: argparse.Namespace, size: int) -> Result:
    return cold(arguments, min(size, 64 * MIB), 50)


def torrent(client: str, arguments: argparse.Namespace, size: int, nodes: int = 8) -> Result:
    with lab(nodes, size, arguments.seed, arguments.dir, rate="1gbit", origin_rate="100mbit") as lan:
        frames = lan.frames["origin"]["sent"]
        done_s, used_s = torrents.race(client, lan, lan.folder / FILE, f"{MODEL}/resolve/main/{FILE}")
        sent = lan.frames["origin"]["sent"] - frames
        return Result(f"{nodes} cold, {client}", size, size * 8 / 100e6, lan.sent, sent, done_s, used_s)


def plot(results: list[Result], folder: Path, command: str) -> None:
    """A curve a node: how much of the model it had, by time."""
    import matplotlib as mpl  # noqa: PLC0415  # only those who plot have it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    for result in (result for result in results if result.traces):
        figure, axes = plt.subplots(figsize=(7, 4))
        for trace in result.traces:
            axes.plot([at for at, *_ in trace], [(peers + hub) / result.size for _, peers, hub in trace], linewidth=1)
        axes.plot([0, result.ideal_s], [0, 1], "k--", linewidth=1, label="the line's rate")
        axes.set(xlabel="seconds", ylabel="part of the model here", title=f"{result.name}, {result.size / MIB:.0f} MiB")
        axes.text(0.99, 0.02, command, transform=axes.transAxes, ha="right", fontsize=6)
        axes.legend(loc="upper left")
        figure.tight_layout()
        figure.savefig(folder / f"swarm-{result.name.replace(' ', '-')}.png", dpi=130)


def main() -> None:
    scenarios = {"cold": cold, "holder": holder, "fifty": fifty}
    scenarios |= {client: partial(torrent, client) for client in ("libtorrent", "aria2")}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=[*scenarios, []], help="all, if none is named")
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dir", type=Path, help="where the stores lie; a tmpfs keeps the disk out of the figures")
    parser.add_argument("--plot", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    if reason := missing():
        sys.exit(f"No lab here: {reason}")
    command = f"swarm_lab.py {' '.join(sys.argv[1:])}"
    results = []
    for _ in range(arguments.rounds):
        for what in arguments.what or scenarios:
            if what in {"libtorrent", "aria2"} and (install := torrents.lacking(what)):
                print(f"{what} is left out: {install}", flush=True)
                continue
            results.append(scenarios[what](arguments, arguments.mib * MIB))
            print(HEAD, results[-1].row, sep="\n", flush=True)
    print(f"\n{command}; seed {arguments.seed}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n{HEAD}")
    for result in results:
        print(result.row)
    if arguments.rounds > 1:
        for name in dict.fromkeys(result.name for result in results):
            ratios = [max(result.done_s) / result.ideal_s for result in results if result.name == name]
            print(f"{name}: last node {statistics.median(ratios):.2f} x ideal in the median, {min(ratios):.2f} at best")
    if arguments.plot:
        plot(results, arguments.plot, command)


if __name__ == "__main__":
    main()
