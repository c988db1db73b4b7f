"""Many worlds in several processes, and some of them twice: the same seed must be the same world, whatever process it is in."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

from simulation import deceit
from simulation.checks import finish_time

AT_A_TIME = 20  # worlds of a process: so that the last ones are shared out as well
LIARS_AT_A_TIME = 10  # one of twenty nodes takes seconds


def main(options):
    began = time.monotonic()
    size = LIARS_AT_A_TIME if options.deceit else AT_A_TIME
    ranges = [(first, 1) for first in shares(options.first, options.seeds, size)]
    again = [(first, 2) for first in shares(options.first, options.twice, size)]
    with ThreadPoolExecutor(options.processes) as processes:
        told = list(processes.map(lambda each: worlds(options, *each), ranges + again))
    once = [world for lines in told[: len(ranges)] for world in lines]
    twice = [world for lines in told[len(ranges) :] for world in lines]
    broken = [world for world in once if world["complaints"]]
    by_seed = {world["seed"]: world for world in once}
    differing = [world["seed"] for world in twice if by_seed.get(world["seed"]) != world]
    missing = options.seeds + options.twice - len(once) - len(twice)
    complaints = ["\n  ".join([f"seed {world['seed']} is broken:", *world["complaints"]]) for world in broken]
    complaints += [f"seed {seed} is another world in another process" for seed in differing]
    if not (options.deceit or options.vouch or options.prove):
        complaints += finish_time.check_all([SimpleNamespace(**world) for world in once])
    summary = (
        f"{len(once)} worlds in {time.monotonic() - began:.0f} s, {len(broken)} broken, {missing} never ended; "
        f"{len(twice)} of them twice, {len(differing)} differing"
    )
    if options.deceit and once:
        summary += f"; {deceit.summary([world['hub_ratio'] for world in once])}"
    sys.stdout.write("\n".join([*complaints, summary]) + "\n")
    return 1 if complaints or missing else 0


def shares(first, count, size):
    """Ranges of seeds."""
    return [range(start, min(start + size, first + count)) for start in range(first, first + count, size)]


def worlds(options, seeds, hash_seed):
    """What a process tells of these."""
    command = [sys.executable, "-m", "tests.simulation", "--json", "--first", str(seeds.start), "--seeds", str(len(seeds))]
    if options.plant:
        command += ["--plant", options.plant]
    if options.vouch:
        command += ["--vouch"]
    if options.prove:
        command += ["--prove"]
    if options.deceit:
        command += ["--deceit", options.deceit, "--of", str(options.of)]
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    if len(told) < len(seeds):
        sys.stderr.write(done.stderr)
    return told
