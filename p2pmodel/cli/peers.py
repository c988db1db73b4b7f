"""`p2pmodel peers`: who is there, and whom this node has banned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import click
import msgspec

from p2pmodel.cli import local_daemon
from p2pmodel.cli.options import json_option, settings_options
from p2pmodel.cli.progress import amount, seconds
from p2pmodel.cli.report import BanReport, PeersReport, print_json, print_table
from p2pmodel.settings import Settings

_REASONS: Final = {
    "wrong_bytes": "gave wrong bytes several times",
    "false_digest": "signed a false digest",
    "false_listing": "told of files what the hub does not",
    "two_digests": "signed two digests for one chunk",
}


@click.command("peers")
@click.option("--forgive", metavar="NODE|all", help="Lift this node's ban of NODE (the beginning of its id will do).")
@json_option
@settings_options
def command(settings: Settings, *, forgive: str | None, as_json: bool) -> None:
    """Show the linked peers: where they are, what came from them and went to them, and how far they are trusted.

    A node bans a peer for what it found out itself. When the peer's disk or memory was mended, --forgive lets it begin anew
    here; other nodes that banned it are told one by one.
    """
    daemon = local_daemon.find(settings)
    document = daemon.get("/-/api/peers") if forgive is None else daemon.change("forgive", {"node": forgive})
    if as_json:
        print_json(document)
    elif forgive is None:
        _show(msgspec.convert(document, PeersReport))
    else:
        forgiven = ", ".join(node[:12] for node in document["forgiven"])
        click.echo(f"{forgiven} is not banned here any more." if forgiven else "Nobody was banned.", err=True)


def _show(report: PeersReport) -> None:
    for ban in report.bans:
        click.echo(f"{ban.node_id[:12]} is banned{_how_long(ban)}: it {_why(ban.why)}.", err=True)
    if report.bans:
        click.echo("A node that was mended is let in again by `p2pmodel peers --forgive NODE`.", err=True)
    peers = report.peers
    if not peers:
        click.echo("No peer is linked. Nodes on other subnets are found by `--set peering.peers=HOST:7277`.", err=True)
        return
    print_table(
        ("NODE", "ADDRESS", "LINKED", "ROUND TRIP", "HOLDS", "RECEIVED", "SENT", "TRUST"),
        (
            (
                peer.node_id[:12],
                peer.address,
                _or_dash(peer.linked_for_s, seconds),
                _or_dash(peer.rtt_s, lambda rtt_s: f"{rtt_s * 1000:.1f} ms"),
                f"{peer.blobs} blobs",
                amount(peer.received),
                amount(peer.sent),
                f"banned: {_why(peer.banned)}" if peer.banned else "each chunk is checked",
            )
            for peer in peers
        ),
    )


def _how_long(ban: BanReport) -> str:
    return " for good" if ban.ends_in_s is None else f" for {seconds(ban.ends_in_s)} more"


def _why(reason: str) -> str:
    return _REASONS.get(reason, reason)


def _or_dash(value: float | None, words: Callable[[float], str]) -> str:
    return "-" if value is None else words(value)
