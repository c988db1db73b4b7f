"""`p2pmodel rm`: removes a snapshot from this node."""

from __future__ import annotations

from collections.abc import Mapping

import click
import msgspec

from p2pmodel.cli import local_daemon
from p2pmodel.cli.options import json_option, settings_options
from p2pmodel.cli.progress import amount, count
from p2pmodel.cli.repo_argument import repo_argument
from p2pmodel.cli.report import RemovedReport, print_json
from p2pmodel.settings import Settings


@click.command("rm")
@repo_argument()
@json_option
@settings_options
def command(settings: Settings, *, asked: Mapping[str, str], as_json: bool) -> None:
    """Remove a snapshot (without a revision: all of the repo) from this node. Files that others name too stay."""
    document = local_daemon.find(settings).change("remove", asked)
    if as_json:
        print_json(document)
        return
    removed = msgspec.convert(document, RemovedReport)
    click.echo(f"{asked['repo']}: {count(removed.blobs, 'file')} removed, {amount(removed.bytes)} freed.", err=True)
    if removed.busy:
        click.echo(f"In use: {count(removed.busy, 'file')}; `p2pmodel gc` removes them later.", err=True)
