"""What an outcome means for the one who owns the cluster: what everybody waited for, and what would help."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from p2pmodel.plan.scenario import FULL_MESH_MAX, Outcome
from p2pmodel.settings import StoreSettings

_BUSY: Final = 0.8
_SHORT_S: Final = 20.0
_LONG: Final = 2  # × the lower bound
_FAST_DISK: Final = 500e6  # bytes/s that not every disk takes for minutes


class Bottleneck(StrEnum):
    UPLINK = "uplink"
    LINKS = "links"
    SPREADING = "spreading"  # neither is busy: turns, round trips and the last hops take the time


def bottleneck(outcome: Outcome) -> Bottleneck:
    if not outcome.scenario.holders and outcome.hub_busy >= _BUSY:
        return Bottleneck.UPLINK
    if max(outcome.up_busy, outcome.down_busy) >= _BUSY:
        return Bottleneck.LINKS
    return Bottleneck.SPREADING


def disk_rate(outcome: Outcome) -> float:
    """Bytes/s that each node writes while the model comes in."""
    return outcome.scenario.size / (outcome.mean_s or 1.0)


def advice(outcome: Outcome) -> list[str]:
    """In full sentences, the most useful first."""
    return [told for rule in _RULES if (told := rule(outcome))]


def _uplink(outcome: Outcome) -> str:
    scenario = outcome.scenario
    if bottleneck(outcome) is not Bottleneck.UPLINK:
        return ""
    gain = scenario.link / scenario.uplink
    return (
        f"The uplink decides: up to {gain:.3g} times its rate would shorten this in proportion. "
        "Or bring the model in on one node beforehand (`p2pmodel fetch`, say overnight): then only the links count."
    )


def _links(outcome: Outcome) -> str:
    if bottleneck(outcome) is not Bottleneck.LINKS:
        return ""
    return "The nodes' links decide: only faster ones would help; check that none runs below its rate."


def _short(outcome: Outcome) -> str:
    if outcome.last_s > _SHORT_S or outcome.to_bound < _LONG:
        return ""
    return "So small a model is over in seconds, most of which are spent on agreeing who reads what."


def _quota(outcome: Outcome) -> str:
    quota = StoreSettings().quota
    if not quota or outcome.scenario.size <= quota:
        return ""
    return "It does not fit the store's default quota: set store.quota on every node."


def _disk(outcome: Outcome) -> str:
    rate = disk_rate(outcome)
    return f"Every disk must take {rate / 1e6:.0f} MB/s all the while." if rate > _FAST_DISK else ""


def _large(outcome: Outcome) -> str:
    scenario = outcome.scenario
    if scenario.nodes <= FULL_MESH_MAX or scenario.neighbours is None:
        return ""
    return (
        f"Reckoned with {scenario.neighbours} neighbours a node and {scenario.readers} that read from the hub; daemons of this "
        "version still tell everything to everyone, which costs them more chatter and processor time."
    )


_RULES: Final[tuple[Callable[[Outcome], str], ...]] = (_uplink, _links, _short, _quota, _disk, _large)
