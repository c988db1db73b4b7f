"""A whole cluster at flow level: the real policy, no wire. `python -m tests.simulation --nodes 1000 --size 140GB …`"""

import argparse
import json
import sys
import time
from dataclasses import asdict

from p2pmodel.plan import Scenario, simulate, units
from p2pmodel.plan.scenario import FULL_MESH_MAX, NEIGHBOURS, READERS


def arguments(argv):
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--nodes", type=int, required=True, help="nodes that want the model")
    parser.add_argument("--size", type=units.size, required=True, help='of the model, like "140GB"')
    parser.add_argument("--link", type=units.rate, required=True, help='of each node, like "25Gbit"')
    parser.add_argument("--uplink", type=units.rate, required=True, help='of the site, like "2Gbit"')
    parser.add_argument("--holders", type=int, default=0, help="how many of the nodes have it already")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stagger", type=float, default=0.0, help="seconds in which the nodes begin (0: all at once)")
    parser.add_argument("--neighbours", type=int, help=f"of each node (all, beyond {FULL_MESH_MAX} nodes {NEIGHBOURS})")
    parser.add_argument("--readers", type=int, help=f"nodes that read from the hub (all, beyond {FULL_MESH_MAX} {READERS})")
    parser.add_argument("--mesh", action="store_true", help="all with all, however many there are")
    parser.add_argument("--chunks", type=int, help="simulate at most so many chunks")
    parser.add_argument("--exact", action="store_true", help="max-min rates")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    return parser.parse_args(argv)


def scenario_of(options):
    few = options.nodes > FULL_MESH_MAX and not options.mesh
    return Scenario(
        nodes=options.nodes,
        size=options.size,
        link=options.link,
        uplink=options.uplink,
        holders=options.holders,
        seed=options.seed,
        stagger_s=options.stagger,
        neighbours=options.neighbours or (NEIGHBOURS if few else None),
        readers=options.readers or (READERS if few else None),
        chunks_max=options.chunks,
        exact=options.exact,
    )


def main(argv):
    options = arguments(argv)
    began = time.process_time()
    outcome = simulate(scenario_of(options))
    cpu = time.process_time() - began
    if options.json:
        told = json.dumps({**asdict(outcome), "bound_s": outcome.scenario.bound_s, "cpu_s": round(cpu, 1)})
    else:
        told = "\n".join(f"{name:<22}{fact}" for name, fact in lines(outcome, cpu))
    sys.stdout.write(told + "\n")
    return 0 if outcome.finished == options.nodes and outcome.hub_ratio <= 1.02 else 1


def lines(outcome, cpu):
    scenario = outcome.scenario
    bound = "size ÷ link" if scenario.holders else "max(size ÷ uplink, size ÷ link)"
    coarse = f", each for {scenario.unit:.1f} of 4 MiB" if scenario.unit > 1 else ""
    return [
        ("finished", f"{outcome.finished} of {scenario.nodes}"),
        ("hub bytes", f"{outcome.hub_bytes:.0f}  {outcome.hub_ratio:.4f} × the size, by {outcome.readers} nodes"),
        ("first, mean, last", f"{outcome.first_s:.2f} s, {outcome.mean_s:.2f} s, {outcome.last_s:.2f} s"),
        ("lower bound", f"{scenario.bound_s:.2f} s  {bound}"),
        ("makespan ÷ bound", f"{outcome.to_bound:.3f}"),
        ("control bytes", f"{outcome.control_bytes:.0f} a node  {outcome.control_ratio:.4%} of the size"),
        ("  the most of any", f"{outcome.control_bytes_most:.0f}"),
        ("neighbours", f"{outcome.neighbours:.1f} a node"),
        ("busy", f"hub {outcome.hub_busy:.0%}, fullest uplink {outcome.up_busy:.0%}, fullest downlink {outcome.down_busy:.0%}"),
        ("simulated", f"{scenario.chunks} chunks{coarse}; seed {scenario.seed}, trace {outcome.trace}"),
        ("took", f"{outcome.events} events, {cpu:.1f} CPU-s"),
    ]
