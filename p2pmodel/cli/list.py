"""`p2pmodel list`: what is held here."""

from __future__ import annotations

import click
import msgspec

from p2pmodel.cli import local_daemon
from p2pmodel.cli.options import json_option, settings_options
from p2pmodel.cli.progress import amount
from p2pmodel.cli.report import SnapshotReport, SnapshotsReport, day, print_json, print_table, where
from p2pmodel.settings import Settings


@click.command("list")
@json_option
@settings_options
def command(settings: Settings, *, as_json: bool) -> None:
    """Show the snapshots that are held here, whole or in part, and how many peers have some of each. Private ones are shown
    to root and the daemon's own user."""
    document = local_daemon.find(settings).get_all("/-/api/snapshots")
    if as_json:
        print_json(document)
        return
    report = msgspec.convert(document, SnapshotsReport)
    if not report.snapshots:
        click.echo(f"No {'' if report.all else 'public '}model is held here yet. `p2pmodel fetch REPO` brings one.", err=True)
        return
    heading = ("REPO", "REVISION", "FILES", "SIZE", "LAST USED", "PEERS", "HUB")
    print_table(heading, map(_row, sorted(report.snapshots, key=lambda each: each.repo)))


def _row(snapshot: SnapshotReport) -> tuple[str, ...]:
    whole = snapshot.files_here == snapshot.files
    kinds = [snapshot.type] * (snapshot.type != "model") + ["private"] * snapshot.private
    return (
        snapshot.repo + (f" ({', '.join(kinds)})" if kinds else ""),
        ", ".join([*snapshot.revisions, snapshot.commit[:12]]) + (" (pinned)" if snapshot.pinned else ""),
        f"{snapshot.files}" if whole else f"{snapshot.files_here} of {snapshot.files}",
        amount(snapshot.bytes) if whole else f"{amount(snapshot.bytes_here)} of {amount(snapshot.bytes)}",
        day(snapshot.used),
        str(snapshot.peers),
        where(snapshot.repo, snapshot.hub),
    )
