"""`p2pmodel warm`: has nodes of the cluster bring a snapshot in, each by itself, and shows them all as one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import click
import msgspec

from p2pmodel.cli import local_daemon
from p2pmodel.cli.options import exclude_option, include_option, json_option, settings_options
from p2pmodel.cli.progress import Amounts, FetchEvent, amount, view
from p2pmodel.cli.repo_argument import hub_option, model_or_dataset_option
from p2pmodel.cli.report import print_json, print_table
from p2pmodel.errors import P2pmodelError
from p2pmodel.settings import Settings

_API: Final = "/-/api/warm"
_WORDS: Final = {"running": "under way", "done": "done", "failed": "failed", "lost": "does not answer; it may go on"}


class NodeEvent(Amounts, kw_only=True):
    """One node, in a line of the daemon's `/-/api/warm`."""

    node: str
    address: str = ""
    state: str
    text: str = ""


class WarmEvent(msgspec.Struct, kw_only=True):
    event: str
    commit: str = ""
    nodes: list[NodeEvent] = []

    @property
    def whole(self) -> FetchEvent:
        """All nodes as one fetch."""
        sums = {name: sum(getattr(node, name) for node in self.nodes) for name in Amounts.__struct_fields__}
        return FetchEvent(event=self.event, commit=self.commit, **sums)


@click.command("warm")
@click.argument("repo", metavar="REPO[@REV]")
@click.option("--nodes", default="all", show_default=True, metavar="all|N|NAMES", help="Which: node ids, addresses, or here.")
@hub_option
@model_or_dataset_option
@include_option
@exclude_option
@click.option("--wait", is_flag=True, help="Stay until every node has it.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@json_option
@settings_options
def command(
    settings: Settings,
    *,
    repo: str,
    nodes: str,
    hub: str,
    kind: str,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    wait: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Ask nodes of a closed cluster to bring a public model in, behind everything that somebody waits for.

    Each node fetches by itself: it goes on when this command, or this node, ends.
    """
    name, _, revision = repo.partition("@")
    query = {
        "repo": name,
        "revision": revision,
        "hub": hub,
        "type": kind,
        "nodes": nodes,
        "include": include,
        "exclude": exclude,
    }
    events = local_daemon.find(settings).events(_API, query, hub_token=None)
    with view(f"{name} on {nodes}", quiet=quiet or not wait) as shown:
        last = WarmEvent(event="")
        for last in _until_enough(events, wait=wait):
            shown.update(last.whole)
    if as_json:
        print_json(msgspec.to_builtins(last))
    else:
        print_table(("NODE", "ADDRESS", "STATE", "FILES", "SIZE", "WAS HERE", "PEERS", "HUB"), map(_row, last.nodes))
    _raise_what_failed(last, wait=wait)


def _until_enough(events: Iterator[dict[str, object]], *, wait: bool) -> Iterator[WarmEvent]:
    """All there is or, for one who does not wait, what the nodes said when they were asked."""
    heard = WarmEvent(event="")
    for event in events:
        heard = msgspec.convert(event, WarmEvent)
        yield heard
        if not wait:
            return
    if heard.event != "done":
        raise P2pmodelError("The daemon ended its answer too early.", next_step="The nodes go on; the same command watches.")


def _row(node: NodeEvent) -> tuple[str, ...]:
    state = _WORDS.get(node.state, node.state)
    return (
        node.node[:12],
        node.address,
        f"{state}: {node.text}" if node.text else state,
        f"{node.files_done} of {node.files}",
        *(amount(count) for count in (node.bytes, node.here, node.peers, node.upstream)),
    )


def _raise_what_failed(last: WarmEvent, *, wait: bool) -> None:
    failed = [node for node in last.nodes if node.state in {"failed", "lost"}]
    if failed:
        raise P2pmodelError(f"{len(failed)} of {len(last.nodes)} nodes could not be asked or did not succeed.")
    if not wait and any(node.state == "running" for node in last.nodes):
        click.echo("They go on by themselves; the same command with --wait watches.", err=True)
