"""`p2pmodel peers`: who is there."""

from __future__ import annotations

import click
import msgspec

from p2pmodel.cli import local_daemon
from p2pmodel.cli.options import json_option, settings_options
from p2pmodel.cli.progress import amount
from p2pmodel.cli.report import PeersReport, print_json, print_table
from p2pmodel.settings import Settings


@click.command("peers")
@json_option
@settings_options
def command(settings: Settings, *, as_json: bool) -> None:
    """Show the linked peers: where they are, what came from them and went to them, and how far they are trusted."""
    document = local_daemon.find(settings).get("/-/api/peers")
    if as_json:
        print_json(document)
        return
    peers = msgspec.convert(document, PeersReport).peers
    if not peers:
        click.echo("No peer is linked. Nodes on other subnets are found by `--set peering.peers=HOST:7277`.", err=True)
        return
    print_table(
        ("NODE", "ADDRESS", "HOLDS", "RECEIVED", "SENT", "RATE", "TRUST"),
        (
            (
                f"{peer.node_id[:12]} {peer.name}".strip(),
                peer.address,
                f"{peer.blobs} blobs",
                amount(peer.received),
                amount(peer.sent),
                f"{amount(peer.rate)}/s" if peer.rate else "-",
                "rested: gave wrong bytes" if peer.resting else "each chunk is checked",
            )
            for peer in peers
        ),
    )
