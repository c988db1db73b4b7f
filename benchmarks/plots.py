"""Curves of simulated clusters for the docs: how time, hub bytes and chatter grow with the number of nodes.

    python benchmarks/plots.py [--dir docs] [--seeds 3] [--large]

Needs matplotlib (`pip install .[docs]`). About ten minutes; `--large` adds 10,000 nodes, another ten. The figures behind the
curves lie beside them as JSON. A point is `python -m tests.simulation --nodes N … --chunks 256` (128 for 10,000 nodes).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any, Final

from p2pmodel.limits import MIB
from p2pmodel.plan import Outcome, Scenario, simulate
from p2pmodel.plan.scenario import FULL_MESH_MAX, NEIGHBOURS, READERS

GBIT: Final = 1e9 / 8
NODES: Final = (2, 8, 16, 32, 100, 316, 1000)
LARGE: Final = 10_000
CHUNKS: Final = 256  # cold, twice as many change little; from one holder 100 nodes come down from 1.4 to 1.2 × at 1024
LARGE_CHUNKS: Final = 128


@dataclass(frozen=True, slots=True)
class Curve:
    name: str
    size: int
    link: float
    uplink: float
    holders: int = 0
    nodes_most: int = LARGE

    def at(self, nodes: int, seed: int) -> Scenario:
        scenario = Scenario.of_a_cluster(
            nodes=nodes, size=self.size, link=self.link, uplink=self.uplink, holders=self.holders, seed=seed
        )
        return replace(scenario, chunks_max=LARGE_CHUNKS if nodes == LARGE else CHUNKS)


CURVES: Final = (
    Curve("nobody has it: 140 GB, links 25 Gbit/s, uplink 2 Gbit/s", 140 * 10**9, 25 * GBIT, 2 * GBIT),
    Curve("nobody has it: 512 MiB, links 1 Gbit/s, uplink 100 Mbit/s", 512 * MIB, GBIT, 0.1 * GBIT, nodes_most=1000),
    Curve("one has it: 4 GiB, links 1 Gbit/s", 4096 * MIB, GBIT, GBIT, holders=1, nodes_most=1000),
)
Points = list[tuple[int, list[Outcome]]]


def run(curve: Curve, seeds: range, *, large: bool) -> Points:
    points = []
    for nodes in (*NODES, *([LARGE] if large else [])):
        if nodes <= curve.nodes_most:
            outcomes = [simulate(curve.at(nodes, seed)) for seed in (seeds if nodes < LARGE else seeds[:1])]
            print(f"{curve.name}; {nodes} nodes: {mean(each.to_bound for each in outcomes):.3f} × the bound", flush=True)
            points.append((nodes, outcomes))
    return points


PANELS: Final = (
    ("last node done ÷ lower bound", lambda outcome: outcome.to_bound, 1.5),
    ("hub bytes ÷ size", lambda outcome: outcome.hub_ratio, 1.02),
    ("control bytes of a node ÷ size, %", lambda outcome: 100 * outcome.control_ratio, 0.1),
)


def plot(curves: dict[str, Points], file: Path, caption: str) -> None:
    import matplotlib as mpl  # noqa: PLC0415  # after the simulations' arguments are known to be good

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, panels = plt.subplots(1, len(PANELS), figsize=(13, 4.2))
    for axes, (title, value, limit) in zip(panels, PANELS, strict=True):
        for name, points in curves.items():
            nodes = [count for count, _ in points]
            [line] = axes.plot(nodes, [mean(map(value, outcomes)) for _, outcomes in points], marker="o", label=name)
            for count, outcomes in points:
                axes.plot([count] * len(outcomes), list(map(value, outcomes)), ".", color=line.get_color(), alpha=0.4)
        axes.axhline(limit, color="grey", linestyle="--", linewidth=1)
        axes.set(xscale="log", xlabel="nodes", title=title)
        axes.set_ylim(bottom=0 if "%" in title or "hub" in title else 0.95)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="upper center", ncol=2, fontsize=8)
    figure.text(0.5, 0.01, caption, ha="center", fontsize=7)
    figure.tight_layout(rect=(0, 0.04, 1, 0.88))
    figure.savefig(file, dpi=130)


def figures(curves: dict[str, Points]) -> dict[str, Any]:
    return {
        name: [
            {
                "nodes": nodes,
                "seed": each.scenario.seed,
                "last_s": round(each.last_s, 2),
                "to_bound": round(each.to_bound, 4),
                "hub_ratio": round(each.hub_ratio, 4),
                "control_ratio": round(each.control_ratio, 6),
                "chunks": each.scenario.chunks,
                "trace": each.trace,
            }
            for nodes, outcomes in points
            for each in outcomes
        ]
        for name, points in curves.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, default=Path(__file__).parents[1] / "docs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="10,000 nodes, too, for the first curve")
    arguments = parser.parse_args()
    curves = {curve.name: run(curve, range(1, arguments.seeds + 1), large=arguments.large) for curve in CURVES}
    arguments.dir.mkdir(exist_ok=True)
    (arguments.dir / "plan.json").write_text(json.dumps(figures(curves), indent=1) + "\n")
    command = " ".join(["python benchmarks/plots.py", *sys.argv[1:]])
    caption = (
        f"{command}; seeds 1 … {arguments.seeds}; dashed: the aim. At most {CHUNKS} chunks: coarse, so on the slow side. "
        f"Up to {FULL_MESH_MAX} nodes all with all, beyond {NEIGHBOURS} neighbours a node and {READERS} readers of the hub."
    )
    plot(curves, arguments.dir / "plan.png", caption)


if __name__ == "__main__":
    main()
