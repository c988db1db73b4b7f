"""Worlds from seeds: `python -m tests.simulation --seeds 500 --processes 2`; one again, told line by line: `--seed N --trace`.
With `--deceit one` or `half` some of the nodes lie (deceit.py); with `--vouch` some vouch falsely (vouching.py); with `--prove`
some lie while others read by the hub's own root (proving.py).
With `--nodes` it is a cluster at flow level (cluster.py): `--nodes 1000 --size 140GB --link 25Gbit --uplink 2Gbit`."""

import argparse
import json
import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

if "--nodes" in sys.argv:  # chunks keep their size there, so before `scale`
    from simulation import cluster

    sys.exit(cluster.main(sys.argv[1:]))

import simulation.scale  # isort: skip  # noqa: F401  # before anything of p2pmodel

from simulation import crowd, deceit, proving, vouching
from simulation.checks import deceit as deceived
from simulation.checks import endings, finish_time, honest_peers, hub_bytes, leaks, wrong_bytes
from simulation.plan import draw
from simulation.plants import PLANTS
from simulation.world import simulate

CHECKS = (wrong_bytes, hub_bytes, endings, leaks, honest_peers)
OF_DECEIT = (wrong_bytes, endings, honest_peers, deceived)
OF_VOUCHING = (wrong_bytes, endings, leaks, honest_peers)
OF_PROVING = OF_VOUCHING


def main():
    options = arguments()
    if options.processes > 1 or options.twice:
        return crowd.main(options)
    seeds = range(options.first, options.first + options.seeds) if options.seed is None else [options.seed]
    results = []
    with PLANTS[options.plant].planted() if options.plant else nullcontext():
        for seed in seeds:
            results.append(one_world(seed, options))
            if options.stop and results[-1].complaints:
                break
    if options.record:
        finish_time.record(results)
    slow = [] if options.deceit or options.vouch or options.prove else list(finish_time.check_all(results))
    broken = sum(bool(result.complaints) for result in results)
    hub = f"; {deceit.summary([result.hub_ratio for result in results])}" if options.deceit else ""
    print("\n".join([*slow, f"{len(results)} worlds, {broken} broken{hub}"]), file=sys.stderr)
    return 1 if broken or slow else 0


def one_world(seed, options):
    plan, checks = world_of(seed, options)
    if options.trace:
        print(plan)
    with deceit.unlucky(options.deceit):
        result = simulate(plan, checks, show=print if options.trace else None)
    if options.json:
        print(json.dumps(asdict(result)), flush=True)
    elif result.complaints:
        print("\n  ".join([f"seed {seed} is broken:", *result.complaints]), flush=True)
    return result


def world_of(seed, options):
    """Its plan, and what is to hold in it."""
    if options.prove:
        return proving.draw(seed), OF_PROVING
    if options.vouch:
        return vouching.draw(seed), OF_VOUCHING
    if options.deceit:
        return deceit.draw(options.deceit, options.of, seed), OF_DECEIT
    return draw(seed), CHECKS


def arguments():
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=40, help="how many worlds (40)")
    parser.add_argument("--first", type=int, default=0, help="the first one's seed (0)")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--processes", type=int, default=1, help="so many processes share the work (1)")
    parser.add_argument("--twice", type=int, default=0, help="simulate the first so many worlds again, and compare (0)")
    parser.add_argument("--deceit", choices=deceit.FILES_MAX, help="one liar among several, or half of them")
    parser.add_argument("--vouch", action="store_true", help="late nodes that believe members, of which some lie")
    parser.add_argument("--prove", action="store_true", help="late nodes that prove what peers give, of whom some lie")
    parser.add_argument("--of", type=int, default=8, help="how many nodes there are where some lie (8)")
    parser.add_argument("--trace", action="store_true", help="tell all that happens")
    parser.add_argument("--json", action="store_true", help="one line of JSON a world")
    parser.add_argument("-x", "--stop", action="store_true", help="stop at the first broken world")
    parser.add_argument("--plant", choices=PLANTS, help="break the code in this way first")
    parser.add_argument("--record", action="store_true", help="keep the finish times as those to hold")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
