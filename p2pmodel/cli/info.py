"""`p2pmodel info REPO`: what is held of a repo here, and where else in the cluster."""

from __future__ import annotations

from collections.abc import Mapping

import click
import msgspec

from p2pmodel.cli import local_daemon
from p2pmodel.cli.options import json_option, settings_options
from p2pmodel.cli.progress import amount, count
from p2pmodel.cli.repo_argument import repo_argument
from p2pmodel.cli.report import InfoReport, InfoSnapshotReport, day, print_json, print_table, where
from p2pmodel.settings import Settings


@click.command("info")
@repo_argument()
@json_option
@settings_options
def command(settings: Settings, *, asked: Mapping[str, str], as_json: bool) -> None:
    """Show a repo's revisions, size, files and last use, and which peers hold it. Private ones are shown to root and the
    daemon's own user."""
    document = local_daemon.find(settings).get_all("/-/api/info", asked)
    if as_json:
        print_json(document)
        return
    report = msgspec.convert(document, InfoReport)
    click.echo(f"{report.repo} ({report.type} of {where(report.repo, report.hub)})")
    for snapshot in report.snapshots:
        click.echo()
        _show(snapshot, report.vouchers)


def _show(snapshot: InfoSnapshotReport, vouchers: int) -> None:
    names = ", ".join(snapshot.revisions)
    marks = ", private" * snapshot.private + ", pinned" * snapshot.pinned
    click.echo(f"{snapshot.commit}{f' ({names})' if names else ''}{marks}")
    click.echo(
        f"{snapshot.files_here} of {snapshot.files} files and {amount(snapshot.bytes_here)} of {amount(snapshot.bytes)} "
        f"are here; last used {day(snapshot.used)}."
    )
    for holder in snapshot.holders:
        click.echo(f"Peer {holder.node_id[:12]} {holder.address} holds {count(holder.files, 'file')}, {amount(holder.bytes)}.")
    if vouchers:
        enough = sum(file.holders >= vouchers for file in snapshot.entries)
        click.echo(
            f"{enough} of {snapshot.files} files are whole at {vouchers} peers or more: if they vouch for one, its bytes "
            "reach clients before this node has checked the whole (gateway.vouchers)."
        )
    print_table(  # names last: some are as long as a line, or as wide as no font says
        ("SIZE", "HERE", "PEERS", "FILE"),
        (
            (amount(file.bytes), f"{file.chunks_here} of {file.chunks} chunks", str(file.holders), file.path)
            for file in snapshot.entries
        ),
    )
