"""Curves of simulated clusters for the docs: how time, hub bytes and chatter grow with the number of nodes.

    python benchmarks/plots.py [--dir docs] [--seeds 3] [--large]

Needs matplotlib (`pip install .[docs]`). About ten minutes; `--large` adds 10,000 nodes, another ten. The figures behind the
curves lie beside them in plan.json; what stands there is not simulated again, so delete it after a change of the policy.
A point is `python -m tests.simulation --nodes N … --chunks 256` (128 for 10,000 nodes).
"""

from __future__ import annotations

import argparse
import json
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
Row = dict[str, Any]  # a simulated cluster, as it stands in plan.json
Figures = dict[str, list[Row]]  # by curve


def run(curve: Curve, rows: list[Row], seeds: range, *, large: bool) -> None:
    """Add the points that are missing."""
    for nodes in (*NODES, *([LARGE] if large else [])):
        for seed in seeds if nodes < LARGE else seeds[:1]:
            if nodes <= curve.nodes_most and not any((row["nodes"], row["seed"]) == (nodes, seed) for row in rows):
                rows.append(row_of(simulate(curve.at(nodes, seed))))
                print(f"{curve.name}; {nodes} nodes, seed {seed}: {rows[-1]['to_bound']:.3f} × the bound", flush=True)
    rows.sort(key=lambda row: (row["nodes"], row["seed"]))


def row_of(outcome: Outcome) -> Row:
    return {
        "nodes": outcome.scenario.nodes,
        "seed": outcome.scenario.seed,
        "last_s": round(outcome.last_s, 2),
        "to_bound": round(outcome.to_bound, 4),
        "hub_ratio": round(outcome.hub_ratio, 4),
        "control_ratio": round(outcome.control_ratio, 6),
        "chunks": outcome.scenario.chunks,
        "trace": outcome.trace,
    }


PANELS: Final = (
    ("last node done ÷ lower bound", lambda row: row["to_bound"], 1.5),
    ("hub bytes ÷ size", lambda row: row["hub_ratio"], 1.02),
    ("control bytes of a node ÷ size, %", lambda row: 100 * row["control_ratio"], 0.1),
)


def plot(curves: Figures, file: Path, caption: str) -> None:
    import matplotlib as mpl  # noqa: PLC0415  # after the simulations' arguments are known to be good

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "p2pmodel"
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, panels = plt.subplots(1, len(PANELS), figsize=(13, 4.2))
    for axes, (title, value, limit) in zip(panels, PANELS, strict=True):
        for name, rows in curves.items():
            nodes = sorted({row["nodes"] for row in rows})
            means = [mean(value(row) for row in rows if row["nodes"] == count) for count in nodes]
            [line] = axes.plot(nodes, means, marker="o", label=name)
            axes.plot([row["nodes"] for row in rows], list(map(value, rows)), ".", color=line.get_color(), alpha=0.4)
        axes.axhline(limit, color="grey", linestyle="--", linewidth=1)
        axes.set(xscale="log", xlabel="nodes", title=title)
        axes.set_ylim(bottom=0 if "%" in title or "hub" in title else 0.95)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="upper center", ncol=2, fontsize=8)
    figure.text(0.5, 0.01, caption, ha="center", fontsize=7)
    figure.tight_layout(rect=(0, 0.04, 1, 0.88))
    figure.savefig(file, metadata={"Date": None})  # the same figures give the same file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, default=Path(__file__).parents[1] / "docs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="10,000 nodes, too, for the first curve")
    arguments = parser.parse_args()
    arguments.dir.mkdir(exist_ok=True)
    file = arguments.dir / "plan.json"
    curves: Figures = json.loads(file.read_text()) if file.exists() else {}
    for curve in CURVES:
        run(curve, curves.setdefault(curve.name, []), range(1, arguments.seeds + 1), large=arguments.large)
        file.write_text(json.dumps(curves, indent=1) + "\n")
    seeds = max(row["seed"] for rows in curves.values() for row in rows)
    command = f"python benchmarks/plots.py --seeds {arguments.seeds}{' --large' * arguments.large}"
    caption = (
        f"{command}; seeds 1 … {seeds}; dashed: the aim. At most {CHUNKS} chunks: coarse, so on the slow side. "
        f"Up to {FULL_MESH_MAX} nodes all with all, beyond {NEIGHBOURS} neighbours a node and {READERS} readers of the hub."
    )
    plot(curves, arguments.dir / "plan.svg", caption)


if __name__ == "__main__":
    main()
