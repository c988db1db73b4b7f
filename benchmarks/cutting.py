"""What Xet's pieces cost: CPU-seconds for a GiB to cut, to check against a list, and to find the root of a list.

    python benchmarks/cutting.py [--mib 256] [--rounds 5]

Beside them, in the same rounds and over the same bytes, sha256 and BLAKE3 of the whole, which a daemon computes of every file.
"places" is the rolling hash alone, without which there is no cut; "cut" is all that makes a list. Reading a list and finding
its root are timed with a million pieces, which is a file of 64 GiB. Median (least–most).
"""

from __future__ import annotations

import argparse
import hashlib
import struct
import time
from collections.abc import Callable

from blake3 import blake3
from measuring import MIB, spread

from p2pmodel.content.cutting import Cutter
from p2pmodel.content.gear import Gear
from p2pmodel.content.pieces import PieceList
from p2pmodel.limits import CHUNK_BYTES

_PIECES = 1 << 20


def buffers(data: bytes) -> list[memoryview]:
    view = memoryview(data)
    return [view[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)]


def cut(data: bytes) -> PieceList:
    cutter = Cutter()
    for buffer in buffers(data):
        cutter.feed(buffer)
    return cutter.finish()


def places(data: bytes) -> None:
    gear = Gear()
    for buffer in buffers(data):
        gear.places(buffer)


def check(pieces: PieceList, data: bytes) -> None:
    if pieces.check(0, data) is not None:
        raise SystemExit("what was cut does not fit what it was cut from")


def took(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    data = blake3(b"cutting").digest(length=options.mib * MIB)
    pieces = cut(data)
    gib = options.mib / 1024
    works: dict[str, Callable[[], object]] = {
        "places": lambda: places(data),
        "cut": lambda: cut(data),
        "check": lambda: check(pieces, data),
        "blake3": lambda: blake3(data).digest(),
        "sha256": lambda: hashlib.sha256(data).digest(),
    }
    long = PieceList.read(b"".join(struct.pack("<32sI", blake3(b"%d" % n).digest(), 65_536) for n in range(_PIECES)))
    seen: dict[str, list[float]] = {name: [] for name in (*works, "read", "root")}
    for _ in range(options.rounds):
        for name, work in works.items():
            seen[name].append(took(work) / gib)
        seen["read"].append(took(lambda: PieceList.read(long.entries)))
        seen["root"].append(took(long.root))
    for name, values in seen.items():
        unit = "CPU-s/GiB" if name in works else "CPU-s for a list of a million pieces"
        print(f"{name:8} {spread(values):>18} {unit}")
    print(
        f"{len(pieces)} pieces of {len(data) / len(pieces) / 1024:.1f} KiB: {len(pieces.entries) / len(data):.3%} of the file"
    )


if __name__ == "__main__":
    main()
