"""`p2pmodel env`: what a shell needs so that its programs ask the local daemon."""

from __future__ import annotations

import os
import shlex
from typing import Final

import click

from p2pmodel.cli import local_daemon
from p2pmodel.cli.options import json_option, settings_options
from p2pmodel.cli.report import print_json
from p2pmodel.errors import NoDaemonError
from p2pmodel.settings import Settings

#: Clients would send requests for this machine to a proxy; each reads its own spelling.
_NO_PROXY: Final = ("NO_PROXY", "no_proxy")
_HERE: Final = "localhost,127.0.0.1,::1"


@click.command("env")
@json_option
@settings_options
def command(settings: Settings, *, as_json: bool) -> None:
    """Print `export` lines that point Hugging Face and ModelScope clients here: eval "$(p2pmodel env)"."""
    try:
        found = local_daemon.find(settings).client_environment()
    except NoDaemonError as error:
        endpoint = local_daemon.endpoint_of(settings.gateway.listen)
        found = {"HF_ENDPOINT": endpoint, "MODELSCOPE_ENDPOINT": endpoint}
        click.echo(f"{error} These lines will hold once one does.", err=True)
    if settings.gateway.token_file is not None:
        click.echo("This gateway wants its token: clients show it as the password in these addresses.", err=True)
    if as_json:
        before = {name: os.environ.get(name) for name in _NO_PROXY}
        print_json(found | {name: f"{_HERE},{others}" if others else _HERE for name, others in before.items()})
        return
    for name, value in found.items():
        click.echo(f"export {name}={shlex.quote(value)}")
    for name in _NO_PROXY:
        click.echo(f'export {name}="{_HERE}${{{name}:+,${name}}}"')
