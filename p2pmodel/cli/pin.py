"""`p2pmodel pin` and `unpin`: what is kept when room is made."""

from __future__ import annotations

from collections.abc import Mapping

import click

from p2pmodel.cli import local_daemon
from p2pmodel.cli.options import json_option, settings_options
from p2pmodel.cli.repo_argument import repo_argument
from p2pmodel.cli.report import print_json
from p2pmodel.settings import Settings


@click.command("pin")
@repo_argument()
@json_option
@settings_options
def command(settings: Settings, *, asked: Mapping[str, str], as_json: bool) -> None:
    """Keep a snapshot that is held here when room is made for others."""
    document = local_daemon.find(settings).change("pin", asked)
    if as_json:
        print_json(document)
    else:
        click.echo(f"{asked['repo']} is pinned at {', '.join(commit[:12] for commit in document['pinned'])}.", err=True)
