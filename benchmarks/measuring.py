"""What the scripts here share: a process's CPU and memory as Linux counts them, models to move, and how a spread is written."""

from __future__ import annotations

import os
import random
import statistics
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from p2pmodel.demo.nodes import Node
from p2pmodel.errors import P2pmodelError

MIB = 1 << 20
_BLOCK = 16 * MIB


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_anon(pid: int) -> int:
    """Anonymous resident bytes: what a process itself takes, without the page cache."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this kernel does not tell RssAnon")


def noise(file: Path, mib: int, seed: int) -> Path:
    """A file without two equal chunks."""
    block = random.Random(seed).randbytes(_BLOCK)
    with file.open("wb") as out:
        for start in range(0, mib * MIB, 4 * MIB):
            out.write(start.to_bytes(8, "big"))
            at = start % (_BLOCK - 4 * MIB + 1)
            out.write(block[at : at + 4 * MIB - 8])
        out.truncate(mib * MIB)
    return file


def fetch_at_once(nodes: Sequence[Node], repo: str) -> float:
    """Seconds until the last of them has it."""
    failures: list[P2pmodelError] = []

    def follow(node: Node) -> None:
        try:
            for _ in node.fetch(repo):
                pass
        except P2pmodelError as error:
            failures.append(error)

    threads = [threading.Thread(target=follow, args=(node,)) for node in nodes]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise SystemExit(f"{failures[0]}\n{failures[0].next_step}")
    return time.perf_counter() - begun


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, and in brackets the least and the most."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"
