"""CPU of a command: `p2pmodel --help`, and `fetch` of something already here; plain `import click` beside them.

    python benchmarks/cli.py [--rounds 15]

The commands take turns. CPU-seconds are those of the finished process (user and system, as the kernel counts); for `fetch`
those of the daemon that answers are told apart. Reach: 150 ms, 300 ms, and no request at the hub with a commit.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import cpu_s, spread

from p2pmodel.demo.hub import Hub, ThreadedHub
from p2pmodel.demo.models import synthetic
from p2pmodel.demo.nodes import COMMAND, Cluster

REPO = "bench/small"


def used_s(command: list[str]) -> float:
    """CPU of one command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def play(root: Path, rounds: int) -> None:
    hub = Hub()
    files = synthetic(root / "model", 8_000_000)
    commit = hub.add_repo("model", REPO, {file.name: file for file in files.iterdir() if file.is_file()})
    with ThreadedHub(hub) as running, Cluster(root / "cluster", running.url) as cluster:
        [node] = cluster.start(1)
        for _ in node.fetch(REPO):
            pass
        commands = {
            "python -c 'import click'": [sys.executable, "-c", "import click"],
            "p2pmodel --help": [*COMMAND, "--help"],
            "p2pmodel fetch REPO@COMMIT": node.command("fetch", "-q", f"{REPO}@{commit}"),
            "p2pmodel fetch REPO": node.command("fetch", "-q", REPO),
        }
        seen: dict[str, list[tuple[float, float, int]]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                asked, daemon = hub.stats()["requests_total"], cpu_s(node.process.pid)
                used = used_s(command)
                asked, daemon = hub.stats()["requests_total"] - asked, cpu_s(node.process.pid) - daemon
                seen[name].append((1000 * used, 1000 * daemon, asked))
    print(f"{'CPU-ms, median (least–most)':28} {'command':>20} {'daemon':>8} {'hub requests':>13}")
    for name, each in seen.items():
        used, daemon, asked = zip(*each, strict=True)
        print(f"{name:28} {spread(used, 0):>20} {statistics.mean(daemon):8.0f} {max(asked):13}")
    print("(reach: --help ≤ 150, fetch ≤ 300, no hub request with a commit)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="p2pmodel-cli-") as root:
        play(Path(root), options.rounds)


if __name__ == "__main__":
    main()
