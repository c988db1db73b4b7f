"""`p2pmodel plan`: what a cluster will need, by simulation of the very policy that runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

import click

from p2pmodel.cli.options import json_option
from p2pmodel.cli.progress import amount, seconds
from p2pmodel.cli.report import print_json
from p2pmodel.plan import Outcome, Scenario, simulate, units, verdict


class _Measure(click.ParamType):  # type: ignore[type-arg]  # not generic in click 8.2
    def __init__(self, name: str, read: Callable[[str], float]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401  # click's
        try:
            return self._read(str(value))
        except ValueError as error:
            self.fail(f"{value!r} is not {error}.", param, ctx)


_SIZE: Final = _Measure("size", units.size)
_RATE: Final = _Measure("rate", units.rate)
_NODES_MAX: Final = 10_000


@click.command("plan")
@click.option("--nodes", required=True, type=click.IntRange(1, _NODES_MAX), help="How many machines want the model.")
@click.option("--size", required=True, type=_SIZE, help='Of the model, like "140GB".')
@click.option("--link", required=True, type=_RATE, help='Of each machine to the LAN, like "25Gbit".')
@click.option("--uplink", required=True, type=_RATE, help='Of the whole site to the hub, like "2Gbit".')
@click.option("--holders", default=0, type=click.IntRange(0), help="How many of the machines have it already.")
@click.option("--seed", default=1, help="The same seed gives the same answer.")
@json_option
def command(*, nodes: int, size: int, link: float, uplink: float, holders: int, seed: int, as_json: bool) -> None:
    """Tell what a cluster will need, by simulation: how long until every machine has a model, what the hub sends.

    Disks and processors are taken to keep up. A thousand machines take about a minute.
    """
    if holders >= nodes:
        raise click.BadParameter("Somebody must be left who wants it.", param_hint="--holders")
    outcome = simulate(Scenario.of_a_cluster(nodes=nodes, size=size, link=link, uplink=uplink, holders=holders, seed=seed))
    if as_json:
        print_json(document(outcome))
    else:
        click.echo("\n".join(lines(outcome)))


def document(outcome: Outcome) -> dict[str, Any]:
    scenario = outcome.scenario
    return {
        **asdict(outcome),
        "bound_s": scenario.bound_s,
        "to_bound": outcome.to_bound,
        "hub_ratio": outcome.hub_ratio,
        "control_ratio": outcome.control_ratio,
        "alone": {"last_s": scenario.alone_s, "hub_bytes": (scenario.nodes - scenario.holders) * scenario.size},
        "bottleneck": verdict.bottleneck(outcome),
        "disk_bytes": scenario.size,
        "disk_rate": verdict.disk_rate(outcome),
        "chunks": scenario.chunks,
        "chunk_unit": scenario.unit,
        "advice": verdict.advice(outcome),
    }


_BECAUSE: Final = {
    verdict.Bottleneck.UPLINK: "the uplink, busy for {hub:.0%} of the time (the busiest link: {link:.0%})",
    verdict.Bottleneck.LINKS: "the links; the busiest was so for {link:.0%} of the time",
    verdict.Bottleneck.SPREADING: "none: uplink {hub:.0%}, busiest link {link:.0%} busy; turns and last hops take the time",
}


def lines(outcome: Outcome) -> list[str]:
    scenario = outcome.scenario
    cold = scenario.nodes - scenario.holders
    why = _BECAUSE[verdict.bottleneck(outcome)]
    busy = why.format(hub=outcome.hub_busy, link=max(outcome.up_busy, outcome.down_busy))
    rows = [
        ("", "with p2pmodel", "each for itself"),
        ("On every machine after", seconds(outcome.last_s), seconds(scenario.alone_s)),
        ("On the first after", seconds(outcome.first_s), ""),
        ("The hub sends", f"{amount(outcome.hub_bytes)} ({outcome.hub_ratio:.2f} ×)", amount(cold * scenario.size)),
    ]
    table = [f"{name:<24}{ours:<26}{theirs}".rstrip() for name, ours, theirs in rows]
    coarse = scenario.unit > 1
    facts = [
        ("Lower bound", f"{seconds(scenario.bound_s)}; this is {outcome.to_bound:.2f} × that"),
        ("Bottleneck", busy),
        ("Disk per machine", f"{amount(scenario.size)}, written at {amount(verdict.disk_rate(outcome))}/s"),
        ("Chatter per machine", f"{amount(outcome.control_bytes)} ({outcome.control_ratio:.3%} of the model)"),
        (
            "Simulated",
            f"seed {scenario.seed}, {scenario.chunks} chunks" + (f", each for {scenario.unit:.0f} of 4 MiB" * coarse),
        ),
    ]
    who = f"{scenario.holders} of them with it" if scenario.holders else "none of them with it"
    rates = f"links of {units.spell_rate(scenario.link)}, uplink of {units.spell_rate(scenario.uplink)}"
    return [
        f"{scenario.nodes} machines, {who}; {amount(scenario.size)}; {rates}",
        "",
        *table,
        "",
        *(f"{name + ':':<24}{fact}" for name, fact in facts),
        "",
        *verdict.advice(outcome),
    ]
