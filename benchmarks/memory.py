"""Anonymous memory of two daemons while 2 GiB come in from the hub, and then from one to the other.

    python benchmarks/memory.py [--mib 2048] [--rounds 1]

Two daemons (`p2pmodel serve`); RssAnon of both is read from /proc every 20 ms. Printed: the most that each took in each
fetch, with rate and CPU-seconds per GB of the daemon that receives. Reach: at most 150 MiB each.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from measuring import MIB, cpu_s, fetch_at_once, noise, rss_anon

from p2pmodel.demo.hub import Hub, ThreadedHub
from p2pmodel.demo.nodes import Cluster, Node

INTERVAL_S = 0.02
REPO = "bench/large"


@contextmanager
def watched(nodes: list[Node]) -> Iterator[dict[int, int]]:
    """The most that each node took while the context is open."""
    most = {node.number: 0 for node in nodes}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(INTERVAL_S):
            for node in nodes:
                most[node.number] = max(most[node.number], rss_anon(node.process.pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def play(root: Path, mib: int) -> None:
    hub = Hub()
    hub.add_repo("model", REPO, {"weights.safetensors": noise(root / "weights", mib, seed=1)})
    with ThreadedHub(hub) as running, Cluster(root / "cluster", running.url) as cluster:
        nodes = cluster.start(2)
        idle = [rss_anon(node.process.pid) / MIB for node in nodes]
        print(f"idle: {idle[0]:.0f} and {idle[1]:.0f} MiB")
        for receiver, way in zip(nodes, ("hub → node 1", "node 1 → node 2"), strict=True):
            cpu = cpu_s(receiver.process.pid)
            with watched(nodes) as most:
                took = fetch_at_once([receiver], REPO)
            cpu = cpu_s(receiver.process.pid) - cpu
            gigabytes = mib * MIB / 1e9
            print(
                f"{way:16} node 1 {most[1] / MIB:4.0f} MiB, node 2 {most[2] / MIB:4.0f} MiB   "
                f"{gigabytes / took:.2f} GB/s, {cpu / gigabytes:.2f} CPU-s/GB at the receiver"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="p2pmodel-memory-") as root:
            play(Path(root), options.mib)
    print("(reach: ≤ 150 MiB each)")


if __name__ == "__main__":
    main()
