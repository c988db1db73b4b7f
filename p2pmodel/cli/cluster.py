"""`p2pmodel cluster`: membership of a closed cluster, which is one key that every node has."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from p2pmodel.cli.options import settings_options
from p2pmodel.errors import ConfigError
from p2pmodel.settings import Settings

_STDIN = "-"
_key_file_option = click.option("--key-file", type=click.Path(path_type=Path), metavar="FILE", help="Where to keep the key.")


@click.group("cluster")
def command() -> None:
    """A closed cluster keeps strangers out: its nodes share a key, and without it nobody gets past the handshake.

    Make one with `cluster init` on one node, then run `cluster join TOKEN` with what it prints on the others.
    """


@command.command("init")
@_key_file_option
def init(key_file: Path | None) -> None:
    """Make a new cluster: write its key and print the token that lets other nodes join."""
    from p2pmodel.peering.membership import new_join_token  # noqa: PLC0415  # brings cryptography

    token = new_join_token()
    _write_key(key_file, token)
    click.echo(token)
    click.echo("Whoever has this token is a member. On each other node: p2pmodel cluster join TOKEN", err=True)


@command.command("join")
@click.argument("token")
@_key_file_option
def join(token: str, key_file: Path | None) -> None:
    """Make this node a member of the cluster that printed TOKEN (- reads it from stdin, out of sight of `ps`)."""
    from p2pmodel.peering.membership import parse_join_token  # noqa: PLC0415  # brings cryptography

    given = sys.stdin.readline().strip() if token == _STDIN else token.strip()
    parse_join_token(given)
    _write_key(key_file, given)


@command.command("token")
@settings_options
def show(settings: Settings) -> None:
    """Print this cluster's join token."""
    from p2pmodel import config  # noqa: PLC0415  # `--help` does without
    from p2pmodel.peering.membership import parse_join_token  # noqa: PLC0415  # brings cryptography

    if settings.cluster.key_file is None:
        raise ConfigError("This node has no cluster key.", next_step="Make one with `p2pmodel cluster init`.")
    token = config.read_secret(settings.cluster.key_file)
    parse_join_token(token)
    click.echo(token)


def _write_key(chosen: Path | None, token: str) -> None:
    """Keep the key where nobody else can read it, and never over another one: its cluster would be lost to this node."""
    from p2pmodel import config  # noqa: PLC0415  # `--help` does without

    file = chosen or config.key_file_to_write()
    if not file.exists():
        _create(file, token)
    elif config.read_secret(file) != token:
        raise ConfigError(f"{file} holds a cluster's key already.", next_step="Move it away to leave that cluster.")
    click.echo(f"The cluster's key is in {file}.", err=True)
    if chosen:
        click.echo(f'Set cluster.key_file = "{file}" in the config, so that the daemon finds it.', err=True)
    click.echo("Restart the daemon here; `p2pmodel status` then says that the cluster is closed.", err=True)


def _create(file: Path, token: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as stream:
        stream.write(token + "\n")
        stream.flush()
        os.fsync(fd)
