"""What receiving a file costs beside moving it: sha256 and sync, in a whole daemon that takes a model from its peer.

    python benchmarks/sealing.py [--mib 512] [--rounds 5]

Two pairs of daemons take turns, one with store.fsync on, one without. The first of each pair has the model; printed is what
the second takes to get it. Beside them, in the same rounds: the hashes alone over the same bytes, in this process, since the
daemon always computes them (BLAKE3 of each chunk, sha256 of the file) and nothing can leave them out. Median (least–most).
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from blake3 import blake3
from measuring import MIB, cpu_s, fetch_at_once, noise, spread

from p2pmodel.demo.hub import Hub, ThreadedHub
from p2pmodel.demo.nodes import Cluster, Node

STORES = {"with sync": "fsync = true", "no sync": "fsync = false"}
HASHES = {"sha256": hashlib.sha256, "blake3": blake3}


def receive(giver: Node, taker: Node, repo: str, gigabytes: float) -> tuple[float, float]:
    """GB/s and CPU-s/GB of the node that takes."""
    fetch_at_once([giver], repo)
    cpu = cpu_s(taker.process.pid)
    took = fetch_at_once([taker], repo)
    return gigabytes / took, (cpu_s(taker.process.pid) - cpu) / gigabytes


def digest(new, data: bytes, gigabytes: float) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    new(data).digest()
    return gigabytes / (time.perf_counter() - wall), (time.process_time() - cpu) / gigabytes


def play(root: Path, options: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    gigabytes = options.mib * MIB / 1e9
    hub = Hub()
    for number in range(options.rounds):
        weights = noise(root / f"weights{number}", options.mib, seed=number)
        hub.add_repo("model", f"bench/m{number}", {"weights": weights})
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in (*STORES, *HASHES)}
    with ThreadedHub(hub) as running, ExitStack() as stack:
        pairs = {
            name: stack.enter_context(Cluster(root / name.replace(" ", "-"), running.url, {"store": setting})).start(2)
            for name, setting in STORES.items()
        }
        for number in range(options.rounds):
            for name, (giver, taker) in pairs.items():
                seen[name].append(receive(giver, taker, f"bench/m{number}", gigabytes))
            data = (root / f"weights{number}").read_bytes()
            for name, new in HASHES.items():
                seen[name].append(digest(new, data, gigabytes))
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="p2pmodel-sealing-") as root:
        seen = play(Path(root), options)
    print(f"{'':10} {'GB/s':>18} {'CPU-s/GB':>18}")
    for name, each in seen.items():
        print(f"{name:10}", *(f"{spread(column):>18}" for column in zip(*each, strict=True)))
    synced, unsynced = seen["with sync"], seen["no sync"]
    rate = statistics.median(ours[0] / theirs[0] for ours, theirs in zip(synced, unsynced, strict=True))
    share = statistics.median(hashed[1] / whole[1] for hashed, whole in zip(seen["sha256"], synced, strict=True))
    print(f"with sync: {rate:.2f} × the rate without; sha256 is {share:.0%} of the CPU")


if __name__ == "__main__":
    main()
