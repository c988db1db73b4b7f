"""`p2pmodel unpin`: what `pin` kept may go again."""

from __future__ import annotations

from collections.abc import Mapping

import click

from p2pmodel.cli import local_daemon
from p2pmodel.cli.options import json_option, settings_options
from p2pmodel.cli.repo_argument import repo_argument
from p2pmodel.cli.report import print_json
from p2pmodel.settings import Settings


@click.command("unpin")
@repo_argument()
@json_option
@settings_options
def command(settings: Settings, *, asked: Mapping[str, str], as_json: bool) -> None:
    """Let a pinned snapshot (without a revision: all of the repo) go when room is made."""
    document = local_daemon.find(settings).change("unpin", asked)
    if as_json:
        print_json(document)
    else:
        unpinned = ", ".join(commit[:12] for commit in document["unpinned"])
        click.echo(f"{asked['repo']} is unpinned at {unpinned}." if unpinned else f"{asked['repo']} was not pinned.", err=True)
