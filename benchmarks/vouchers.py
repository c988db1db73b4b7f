"""How long a client of a late node waits for a file that its neighbours hold: by its hash alone, by their word, by proof.

    python benchmarks/vouchers.py [--mib 512] [--rounds 3] [--holders 3] [--link 125MB/s]

Each round and setting has a hub and daemons of its own (`p2pmodel serve`, a closed cluster): the holders fetch a model of one
file, then one more node starts and a client asks it for the file, or for a MiB in its middle. Printed, for nobody's word, for
`gateway.vouchers` 2, and for a file whose Xet root the hub tells (one of the holders has listed its pieces): seconds until
the client has its first byte and its last; and what the hub sent for it. Median (least–most).
"""

from __future__ import annotations

import argparse
import http.client
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from measuring import MIB, fetch_at_once, noise, spread

from p2pmodel.demo.hub import Hub, ThreadedHub
from p2pmodel.demo.nodes import Cluster, Node
from p2pmodel.demo.repos import Content

REPO = "bench/vouched"
PIECE = MIB


@dataclass(frozen=True, slots=True)
class Way:
    """By what bytes may leave before the whole file is checked."""

    name: str
    vouchers: int = 0
    rooted: bool = False


WAYS = (Way("nothing"), Way("two members", vouchers=2), Way("the hub's root", rooted=True))


def ask(node: Node, **headers: str) -> tuple[float, float]:
    """Seconds until the first byte of the body, and until the last."""
    begun = time.perf_counter()
    with closing(http.client.HTTPConnection("127.0.0.1", node.gateway_port, timeout=600)) as connection:
        connection.request(
            "GET", f"/{REPO}/resolve/main/weights.safetensors", headers={"User-Agent": "python-requests/2", **headers}
        )
        answer = connection.getresponse()
        answer.read(1)
        first = time.perf_counter() - begun
        while answer.read(PIECE):
            pass
    return first, time.perf_counter() - begun


def play(root: Path, way: Way, options: argparse.Namespace, range_of: str) -> tuple[float, float, float]:
    """Seconds to the first byte and to the last of a late client, and the hub's bytes over the model's."""
    hub = Hub()
    root.mkdir()
    weights = noise(root / "weights", options.mib, 7)
    hub.add_repo("model", REPO, {"weights.safetensors": Content.of(weights, xet=True) if way.rooted else weights})
    settings = {"gateway": f"vouchers = {way.vouchers}", "limits": f'peer_download = "{options.link}"'}
    with ThreadedHub(hub) as running, Cluster(root / "cluster", running.url, settings) as cluster:
        holders = cluster.start(options.holders)
        fetch_at_once(holders, REPO)
        while way.rooted and not any(list((holder.state / "pieces").iterdir()) for holder in holders):
            time.sleep(0.1)
        [late] = cluster.start(1)
        hub.reset()
        first, last = ask(late, **({"Range": range_of} if range_of else {}))
        return first, last, hub.stats()["file_bytes"] / (options.mib * MIB)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--holders", type=int, default=3)
    parser.add_argument("--link", default="125MB/s", help="what the late node takes from its peers: a gigabit")
    options = parser.parse_args()
    middle = options.mib * MIB // 2
    print(f"{'by':14} {'asked for':12} {'first byte, s':>20} {'last byte, s':>20} {'hub bytes / model':>20}")
    seen: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for _ in range(options.rounds):
        for way in WAYS:
            for what, range_of in (("whole", ""), ("1 MiB", f"bytes={middle}-{middle + MIB - 1}")):
                with tempfile.TemporaryDirectory(prefix="p2pmodel-vouchers-") as root:
                    seen.setdefault((way.name, what), []).append(play(Path(root) / "x", way, options, range_of))
    for (name, what), rounds in seen.items():
        print(f"{name:<14} {what:12}", *(f"{spread(column):>20}" for column in zip(*rounds, strict=True)))


if __name__ == "__main__":
    main()
