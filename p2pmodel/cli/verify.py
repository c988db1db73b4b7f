"""`p2pmodel verify`: hashes what is stored again, and has what was damaged fetched anew."""

from __future__ import annotations

from collections.abc import Mapping

import click
import msgspec

from p2pmodel.cli import local_daemon
from p2pmodel.cli.options import json_option, settings_options
from p2pmodel.cli.progress import amount, count, view
from p2pmodel.cli.repo_argument import repo_argument
from p2pmodel.cli.report import VerifyReport, print_json
from p2pmodel.errors import P2pmodelError
from p2pmodel.settings import Settings


@click.command("verify")
@repo_argument(required=False)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@json_option
@settings_options
def command(settings: Settings, *, asked: Mapping[str, str], quiet: bool, as_json: bool) -> None:
    """Hash everything that is stored here (or one repo) again; damaged chunks are fetched again."""
    report = VerifyReport()
    with view(f"Verifying {asked.get('repo') or 'the store'}", quiet=quiet) as shown:
        for event in local_daemon.find(settings).changes("verify", asked):
            report = msgspec.convert(event, VerifyReport)
            shown.update(report.progress)
    if as_json:
        print_json(msgspec.to_builtins(report))
    else:
        found = (
            f"{count(report.damaged, 'damaged chunk')}, {count(report.mended, 'file')} mended"
            if report.damaged
            else "all as it should be"
        )
        click.echo(f"{count(report.files_done, 'file')}, {amount(report.bytes_done)}: {found}.", err=True)
        for failure in report.failures:
            click.echo(failure, err=True)
    if report.event != "done":
        raise P2pmodelError("The daemon ended its answer too early.", next_step="Run the same command again.")
    if report.failures:
        raise P2pmodelError(f"{count(len(report.failures), 'damaged file')} could not be mended.")
