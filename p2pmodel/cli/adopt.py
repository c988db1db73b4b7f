"""`p2pmodel adopt`: takes what hub clients left on this machine into the store, without a second copy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import click
import msgspec

from p2pmodel.cli import local_daemon
from p2pmodel.cli.options import json_option, settings_options
from p2pmodel.cli.progress import amount, count, view
from p2pmodel.cli.report import AdoptReport, print_json
from p2pmodel.errors import NotFoundError, P2pmodelError
from p2pmodel.settings import Settings


@click.command("adopt")
@click.argument("folders", metavar="[DIR]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@json_option
@settings_options
def command(settings: Settings, *, folders: tuple[Path, ...], quiet: bool, as_json: bool) -> None:
    """Take existing Hugging Face and ModelScope caches into the store, in place.

    Without DIR: this user's own caches. Files are linked, not copied, and hashed behind everything else; the daemon goes on
    when this command ends. What the hub lists to everybody is then shared with the cluster.
    """
    daemon = local_daemon.find(settings)
    reports = {}
    for folder in [folder.resolve() for folder in folders] or default_caches(os.environ):
        if not folder.is_dir():
            raise NotFoundError(f"There is no folder {folder}.")
        reports[str(folder)] = adopt(daemon, {"dir": str(folder)}, quiet=quiet)
    if as_json:
        print_json({folder: msgspec.to_builtins(report) for folder, report in reports.items()})
    if not reports:
        raise NotFoundError("This user has no cache of a hub's client.", next_step="Name its folder.")
    if empty := [folder for folder, report in reports.items() if folders and not report.repos]:
        named = "Name the folder that HF_HOME, HF_HUB_CACHE or MODELSCOPE_CACHE would."
        raise NotFoundError(f"No cache of a hub's client is in {empty[0]}.", next_step=named)
    if failed := sum(report.failed for report in reports.values()):
        raise P2pmodelError(f"{count(failed, 'file')} could not be adopted.")


def default_caches(environ: Mapping[str, str]) -> list[Path]:
    """Where this user's clients keep what they downloaded, as far as it is there."""
    home = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    huggingface = environ.get("HF_HUB_CACHE") or environ.get("HF_HOME") or home / "huggingface"
    modelscope = environ.get("MODELSCOPE_CACHE") or Path.home() / ".cache" / "modelscope"
    return [folder.resolve() for folder in map(Path, (huggingface, modelscope)) if folder.is_dir()]


def adopt(daemon: local_daemon.LocalDaemon, query: Mapping[str, str], *, quiet: bool) -> AdoptReport:
    """Have the daemon take a folder, and tell how it went."""
    folder, report = query["dir"], AdoptReport()
    with view(f"Adopting {folder}", quiet=quiet) as shown:
        for event in daemon.changes("adopt", query):
            report = msgspec.convert(event, AdoptReport)
            shown.update(report.progress)
    if report.event != "done":
        raise P2pmodelError("The daemon ended its answer too early.", next_step="Run the same command again.")
    click.echo(
        f"{folder}: {count(report.adopted, 'file')} adopted, {report.here} were here, {amount(report.bytes)} in "
        f"{count(report.repos, 'repo')}, {report.repos_public} shared.",
        err=True,
    )
    for failure in report.failures:
        click.echo(failure, err=True)
    return report
