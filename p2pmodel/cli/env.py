"""`p2pmodel env`: what a shell needs so that its programs ask the local daemon."""

from __future__ import annotations

import shlex

import click

from p2pmodel.cli import local_daemon
from p2pmodel.cli.options import settings_options
from p2pmodel.errors import NoDaemonError
from p2pmodel.settings import Settings


@click.command("env")
@settings_options
def command(settings: Settings) -> None:
    """Print `export` lines that point Hugging Face and ModelScope clients here: eval "$(p2pmodel env)"."""
    try:
        found = local_daemon.find(settings).client_environment()
    except NoDaemonError as error:
        endpoint = local_daemon.endpoint_of(settings.gateway.listen)
        found = {"HF_ENDPOINT": endpoint, "MODELSCOPE_ENDPOINT": endpoint}
        click.echo(f"{error} These lines will hold once one does.", err=True)
    for name, value in found.items():
        click.echo(f"export {name}={shlex.quote(value)}")
    for name in (
        "NO_PROXY",
        "no_proxy",
    ):  # clients would send requests for this machine to a proxy; each reads its own spelling
        click.echo(f'export {name}="localhost,127.0.0.1,::1${{{name}:+,${name}}}"')
