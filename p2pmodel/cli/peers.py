"""`p2pmodel peers`: who is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import click
import msgspec

from p2pmodel.cli import local_daemon
from p2pmodel.cli.options import json_option, settings_options
from p2pmodel.cli.progress import amount, seconds
from p2pmodel.cli.report import PeersReport, print_json, print_table
from p2pmodel.settings import Settings

_REASONS: Final = {
    "wrong_bytes": "gave wrong bytes several times",
    "false_digest": "signed a false digest",
    "false_listing": "told of files what the hub does not",
    "two_digests": "signed two digests for one chunk",
}


@click.command("peers")
@json_option
@settings_options
def command(settings: Settings, *, as_json: bool) -> None:
    """Show the linked peers: where they are, what came from them and went to them, and how far they are trusted."""
    document = local_daemon.find(settings).get("/-/api/peers")
    if as_json:
        print_json(document)
        return
    report = msgspec.convert(document, PeersReport)
    peers, linked = report.peers, {peer.node_id for peer in report.peers}
    for ban in report.bans:
        if ban.node_id not in linked:
            length = "for good" if ban.for_good else "for a while"
            click.echo(f"{ban.node_id[:12]} is banned {length}, and not linked: {_why(ban.why)}.", err=True)
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


def _why(reason: str) -> str:
    return _REASONS.get(reason, reason)


def _or_dash(value: float | None, words: Callable[[float], str]) -> str:
    return "-" if value is None else words(value)
