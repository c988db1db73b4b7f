"""What `p2pmodel plan` foretells against what a lab of real daemons does, for 8 nodes.

    sudo python benchmarks/plan_check.py [cold] [holder] [--mib 512]

The same runs as swarm_lab.py's (needs what it needs), and the same cluster simulated for a few seeds. A line of so many bits
carries some 5 % less of a file than it could, for frames have headers: the plan is told the rate that TCP leaves.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Final

sys.path[:0] = [str(Path(__file__).parent)]

import swarm_lab  # noqa: E402  # lies beside this
from lan import missing  # noqa: E402  # swarm_lab knows where it lies

from p2pmodel.limits import MIB  # noqa: E402
from p2pmodel.plan import Scenario, simulate  # noqa: E402

NODES: Final = 8
GOODPUT: Final = 1448 / 1514  # TCP payload of an Ethernet frame as a shaper counts it
SEEDS: Final = range(1, 6)

Run = Callable[[argparse.Namespace, int], swarm_lab.Result]
CASES: Final[dict[str, tuple[Run, Callable[[int, int], Scenario]]]] = {
    "cold": (
        swarm_lab.cold,
        lambda size, seed: Scenario(nodes=NODES, size=size, link=1e9 / 8 * GOODPUT, uplink=100e6 / 8 * GOODPUT, seed=seed),
    ),
    "holder": (
        swarm_lab.holder,
        lambda size, seed: Scenario(
            nodes=NODES, size=size, link=200e6 / 8 * GOODPUT, uplink=1e9 / 8 * GOODPUT, holders=1, seed=seed
        ),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=[*CASES, []], help="both, if none is named")
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dir", type=Path, help="where the stores lie; a tmpfs keeps the disk out of the figures")
    arguments = parser.parse_args()
    if reason := missing():
        sys.exit(f"No lab here: {reason}")
    size = arguments.mib * MIB
    rows = []
    for what in arguments.what or CASES:
        run, scenario = CASES[what]
        seen = run(arguments, size)
        told = [simulate(scenario(size, seed)) for seed in SEEDS]
        foretold, last = mean(each.last_s for each in told), max(seen.done_s)
        hub = mean(each.hub_ratio for each in told)
        rows.append(
            f"{seen.name:<16} {foretold:>9.1f} {last:>9.1f} {last / foretold:>9.2f} {hub:>13.3f} {seen.hub_bytes / size:>9.3f}"
        )
    print(f"{'what':<16} {'last told':>9} {'last seen':>9} {'ratio':>9} {'hub x told':>13} {'hub x seen':>9}")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
