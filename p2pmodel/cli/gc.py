"""`p2pmodel gc`: makes room."""

from __future__ import annotations

import click
import msgspec

from p2pmodel.cli import local_daemon
from p2pmodel.cli.options import json_option, settings_options
from p2pmodel.cli.progress import amount, count
from p2pmodel.cli.report import RemovedReport, print_json
from p2pmodel.settings import Settings


@click.command("gc")
@click.option("--dry-run", is_flag=True, help="Only say what no model needs.")
@json_option
@settings_options
def command(settings: Settings, *, dry_run: bool, as_json: bool) -> None:
    """Remove files that no known snapshot names, then what is over store.quota, the longest unused first."""
    document = local_daemon.find(settings).change("collect", {"dry_run": "1" if dry_run else ""})
    if as_json:
        print_json(document)
        return
    removed = msgspec.convert(document, RemovedReport)
    deed = "would be removed" if dry_run else "removed"
    click.echo(f"{count(removed.blobs, 'file')} {deed}, {amount(removed.bytes)}.", err=True)
    if removed.busy:
        click.echo(f"In use: {count(removed.busy, 'file')}.", err=True)
