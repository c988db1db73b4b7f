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
    daemon = None
    try:
        daemon = local_daemon.find(settings)
        endpoint = daemon.endpoint
    except NoDaemonError as error:
        endpoint = local_daemon.endpoint_of(settings.gateway.listen)
        click.echo(f"{error} These lines will hold once one does.", err=True)
    click.echo(f"export HF_ENDPOINT={endpoint}")
    click.echo(f"export MODELSCOPE_ENDPOINT={endpoint}")
    if daemon is not None and daemon.gateway_tls is not None:
        # Up to 1.37 this is the only name that modelscope reads; to localhost it would send no cookie.
        click.echo(f"export MODELSCOPE_DOMAIN={local_daemon.here(daemon.gateway_tls)}")
        click.echo(f"export REQUESTS_CA_BUNDLE={shlex.quote(daemon.ca_bundle)}")
    for name in (
        "NO_PROXY",
        "no_proxy",
    ):  # clients would send requests for this machine to a proxy; each reads its own spelling
        click.echo(f'export {name}="localhost,127.0.0.1,::1${{{name}:+,${name}}}"')
