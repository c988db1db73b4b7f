"""What three nodes cost the hub: one after the other, and all at once from cold.

    python benchmarks/three_nodes.py [--mib 256] [--rounds 5] [--rate 1gbit]

Each round has a hub and three daemons of its own (`p2pmodel serve`, linked before the clock starts) and two models: one is
fetched by node 1, then 2, then 3, the other by all in the same moment. Printed: body bytes that the hub says it sent for
files over the bytes of the model, seconds, and CPU-seconds of all three daemons per GB that arrived. Median (least–most).
Reach: 1.00 one after the other, at most 1.10 at once.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from measuring import MIB, cpu_s, fetch_at_once, noise, spread

from p2pmodel.demo.hub import Hub, ThreadedHub
from p2pmodel.demo.nodes import Cluster

NODES = 3


def play(root: Path, seed: int, options: argparse.Namespace) -> dict[str, tuple[float, float, float]]:
    """By way of starting: hub ratio, seconds, CPU-s/GB."""
    hub = Hub()
    hub.configure({"rate": options.rate})
    for number, way in enumerate(("in turn", "at once")):
        hub.add_repo("model", name(way), {"weights.safetensors": noise(root / way, options.mib, 2 * seed + number)})
    with ThreadedHub(hub) as running, Cluster(root / "cluster", running.url) as cluster:
        nodes = cluster.start(NODES)

        def measure(fetch):
            hub.reset()
            cpu = sum(cpu_s(node.process.pid) for node in nodes)
            took = fetch()
            cpu = sum(cpu_s(node.process.pid) for node in nodes) - cpu
            size = options.mib * MIB
            return hub.stats()["file_bytes"] / size, took, cpu / (NODES * size / 1e9)

        return {
            "in turn": measure(lambda: sum(fetch_at_once([node], name("in turn")) for node in nodes)),
            "at once": measure(lambda: fetch_at_once(nodes, name("at once"))),
        }


def name(way: str) -> str:
    return f"bench/{way.replace(' ', '-')}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", default="1gbit", help="the hub's uplink")
    options = parser.parse_args()
    rounds = []
    for seed in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="p2pmodel-three-") as root:
            rounds.append(play(Path(root), seed, options))
    print(f"{'':8} {'hub bytes / model':>20} {'seconds':>20} {'CPU-s/GB':>20}")
    for way in ("in turn", "at once"):
        print(f"{way:8}", *(f"{spread(column):>20}" for column in zip(*(each[way] for each in rounds), strict=True)))
    print("(reach: 1.00 in turn, ≤ 1.10 at once)")


if __name__ == "__main__":
    main()
