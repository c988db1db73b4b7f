"""Worlds from seeds: `python -m tests.simulation --seeds 500`; one of them again, told line by line: `--seed N --trace`."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from simulation import scale  # isort: skip  # before anything of p2pmodel

from simulation.checks import endings, honest_peers, hub_bytes, leaks, wrong_bytes
from simulation.plan import draw
from simulation.world import simulate

CHECKS = (wrong_bytes, hub_bytes, endings, leaks, honest_peers)


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=25, help="how many worlds, from seed --first on")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--trace", action="store_true", help="say all that happens")
    parser.add_argument("--json", action="store_true", help="one line of JSON a world")
    options = parser.parse_args()
    seeds = [options.seed] if options.seed is not None else range(options.first, options.first + options.seeds)
    broken = 0
    for seed in seeds:
        plan = draw(seed)
        if options.trace:
            print(plan)
        result = simulate(plan, CHECKS, show=print if options.trace else None)
        broken += bool(result.complaints)
        if options.json:
            print(json.dumps(asdict(result)))
        elif result.complaints or options.trace:
            print(f"seed {seed}, trace {result.trace}: " + "\n  ".join(["broken", *result.complaints]))
    if not options.json:
        print(f"{len(seeds)} worlds, {broken} broken" if broken else f"{len(seeds)} worlds, all well")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
